# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the environment that every target of the Makefile runs in. Runs on any Python from 3.8 on.

The environment lies in the cache under a name that is a hash of what it is made from. It is made in place, because the scripts in it name
their interpreter by its full path, under a lock, and it counts as complete only once its stamp is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cache import ROOT, project_cache

UV_VERSION = "0.13.9"
GO_FLOOR = (1, 26, 6)  # what the go.mod files of the lab's control plane ask for
STAMP = "gpuops.eks-complete"
STARTED = time.monotonic()


class Unable(Exception):
    """Set-up cannot go on; the message is one sentence that says what to do."""


class Interpreter(NamedTuple):
    """A Python that was really run."""

    path: str
    version: tuple[int, int, int]
    build: str


class Pair(NamedTuple):
    """A Python and the ansible-core that goes with it (ansible-core's support matrix: 2.19 needs 3.11, 2.21 needs 3.12)."""

    lock: str
    title: str
    minors: tuple[int, ...]


PAIRS = (
    Pair("main.txt", "main pair", (13, 12, 14)),
    Pair("older.txt", "older pair", (11,)),
)


def say(text: str) -> None:
    """Print what is being done, with the seconds since the start."""
    sys.stderr.write(f"setup: {time.monotonic() - STARTED:6.1f} s  {text}\n")
    sys.stderr.flush()


def run(command: list[str]) -> None:
    """Run a command that is quiet when it works; Unable with its output when it does not."""
    # uv trusts the system's certificates, as pip does, under one of these names by its version.
    environment = {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true", **os.environ}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=False)
    if done.returncode:
        raise Unable(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{done.stdout.strip()}")


def answer(command: list[str]) -> str | None:
    """Return what a command prints, or None where it does not run or fails (a pyenv shim of an absent version exits 127)."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def probe(path: str) -> Interpreter | None:
    """Run a candidate and return what it is, or None where it is not a CPython that answers."""
    script = "import json, os, platform, sys; print(json.dumps([platform.python_implementation(), os.path.realpath(sys.executable), list(sys.version_info[:3]), sys.version]))"
    text = answer([path, "-I", "-c", script])
    if text is None:
        return None
    implementation, executable, version, build = json.loads(text)
    if implementation != "CPython":
        return None
    return Interpreter(executable, (version[0], version[1], version[2]), build)


def which(name: str) -> str | None:
    """Return where PATH has a program, our own environments aside: they must not decide how they are made."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return shutil.which(name, path=os.pathsep.join(entry for entry in entries if not (Path(entry).parent / STAMP).is_file()))


def candidates(minor: int) -> Iterator[str]:
    """Yield where a Python 3.MINOR may be: this one, PATH, pyenv's versions, uv's."""
    name = f"python3.{minor}"
    if sys.version_info[:2] == (3, minor):
        yield getattr(sys, "_base_executable", None) or sys.executable
    for found in (which(name), which("python3")):
        if found:
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT") or os.path.join(os.path.expanduser("~"), ".pyenv"))
    with contextlib.suppress(PermissionError):
        yield from sorted((str(path) for path in pyenv.glob(f"versions/3.{minor}.*/bin/{name}")), reverse=True)
    uv = which("uv")
    if uv:
        found = answer([uv, "python", "find", "--no-python-downloads", "--no-project", f"3.{minor}"])
        if found:
            yield found


def choose() -> tuple[Interpreter, Pair]:
    """Return the interpreter to use and its pair: the newest ansible-core that a Python on this machine can run."""
    explicit = os.environ.get("GPUOPS_PYTHON")
    seen: dict[str, Interpreter | None] = {}
    for pair in PAIRS:
        for minor in pair.minors:
            for path in [explicit] if explicit else candidates(minor):
                if path not in seen:
                    seen[path] = probe(path)
                interpreter = seen[path]
                if interpreter and interpreter.version[:2] == (3, minor):
                    return interpreter, pair
    if explicit:
        raise Unable(f"GPUOPS_PYTHON={explicit} is no CPython 3.11 to 3.14 that runs: name another one or unset it.")
    raise Unable("no CPython 3.11 to 3.14 runs on this machine (tried PATH, pyenv and uv): install one, for example python3.13.")


def go_version() -> tuple[int, ...] | None:
    """Return the version of the Go on PATH, or None."""
    go = which("go")
    text = answer([go, "env", "GOVERSION"]) if go else None
    match = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(part or 0) for part in match.groups()) if match else None


def locks(pair: Pair) -> list[Path]:
    """Return the lock files to install: the pair's, and the one with Go where PATH has none that is new enough."""
    files = [ROOT / "requirements" / pair.lock]
    version = go_version()
    if version is None or version < GO_FLOOR:
        files.append(ROOT / "requirements" / "go.txt")
    return files


def key(interpreter: Interpreter, files: list[Path]) -> str:
    """Return the hash of all that an environment is made from."""
    parts = [interpreter.path, interpreter.build, sysconfig.get_platform(), *(path.read_text(encoding="utf-8") for path in files)]
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file, which is left in place: to delete it would let two runs hold two different ones."""
    with open(str(path), "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work, waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def find_uv(interpreter: Interpreter, cache: Path) -> str:
    """Return a uv that runs: from PATH, from the cache, or installed there with pip."""
    path = which("uv")
    if path and answer([path, "--version"]):
        return path
    target = cache / f"uv-{UV_VERSION}"
    program = target / "bin" / "uv"
    if not answer([str(program), "--version"]):
        say(f"install uv {UV_VERSION} with pip")
        shutil.rmtree(str(target), ignore_errors=True)
        installer = next((python for python in (interpreter.path, sys.executable) if answer([python, "-m", "pip", "--version"])), None)
        if installer is None:
            raise Unable(f"neither uv nor a pip for {interpreter.path} is there: install one of the two.")
        run([installer, "-m", "pip", "install", "--quiet", "--no-input", "--target", str(target), f"uv=={UV_VERSION}"])
    return str(program)


def is_complete(venv: Path) -> bool:
    """Return whether an environment was made to its end and its interpreter is still there."""
    return (venv / STAMP).is_file() and os.access(str(venv / "bin" / "python"), os.X_OK)


def build(venv: Path, interpreter: Interpreter, files: list[Path], cache: Path) -> None:
    """Make the environment, replacing what an interrupted run has left."""
    uv = find_uv(interpreter, cache)
    shutil.rmtree(str(venv), ignore_errors=True)
    say(f"make {venv}")
    run([uv, "venv", "--quiet", "--no-project", "--python", interpreter.path, str(venv)])
    count = sum(line[:1].isalnum() for path in files for line in path.read_text(encoding="utf-8").splitlines())
    say(f"install the {count} packages of {' and '.join(str(path.relative_to(ROOT)) for path in files)}")
    requirements = [argument for path in files for argument in ("--requirement", str(path))]
    run([uv, "pip", "install", "--quiet", "--no-deps", "--python", str(venv / "bin" / "python"), *requirements])
    (venv / STAMP).write_text("", encoding="utf-8")


def link(path: Path, target: str) -> None:
    """Make a symbolic link or point it elsewhere, in one step that others never see half done."""
    if path.is_symlink() and os.readlink(str(path)) == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(path)


def environment() -> Path:
    """Return the environment, made where it is missing."""
    interpreter, pair = choose()
    files = locks(pair)
    cache = project_cache()
    cache.mkdir(parents=True, exist_ok=True)
    venv = cache / f"venv-{key(interpreter, files)}"
    if not is_complete(venv):
        version = ".".join(str(part) for part in interpreter.version)
        say(f"Python {version} ({interpreter.path}), so the {pair.title}: {files[0].relative_to(ROOT)}")
        if len(files) > 1:
            say("no Go from 1.26.6 on in PATH, so the environment brings its own")
        with locked(venv.with_suffix(".lock")):
            if not is_complete(venv):
                build(venv, interpreter, files, cache)
        say("the environment is ready; amazon.aws and kubernetes.core are those of its ansible package")
    return venv


def main() -> int:
    """Make the environment and the two links of the checkout; 1 with one sentence where that cannot be."""
    try:
        venv = environment()
        link(ROOT / ".cache" / "venv", str(venv))
        link(ROOT / "collections" / "ansible_collections" / "gpuops" / "eks", os.path.join("..", "..", ".."))
    except (Unable, OSError) as error:
        say(f"stopped: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
