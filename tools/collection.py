# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the collection as its users get it: what `ansible-galaxy collection build` puts into the archive, unpacked.

The archive is built from a copy of the files that git knows or would add, so nothing that is ignored can slip in, and work that is not
committed yet is checked too.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from cache import ROOT, project_cache
from surroundings import BIN

DEPENDENCIES = ("amazon.aws", "kubernetes.core")
SHIPPED = frozenset(
    {"CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "awx", "changelogs", "docs", "examples", "extensions"}
    | {"inventories", "meta", "playbooks", "plugins", "roles"}
)
OPTIONAL = frozenset({"CHANGELOG.md", "awx", "examples", "extensions", "inventories"})

# ansible-test fetches pip's bootstrap script from a host of its own; every interpreter brings a pip that can do the same.
PIP_BOOTSTRAP = '''"""Put pip into a bare virtual environment: first the interpreter's own, which then installs what the arguments ask for."""
import ensurepip
import subprocess
import sys

ensurepip.bootstrap(default_pip=True)
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install"] + arguments))
'''


def run(command: list[str], cwd: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a command with its output shown; CalledProcessError where it fails."""
    print(f"+ {' '.join(command)}", flush=True)
    subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, check=True)


@contextlib.contextmanager
def work_directory() -> Iterator[Path]:
    """Yield a new directory in the cache, removed afterwards."""
    cache = project_cache()
    cache.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="tree-", dir=cache))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def export(destination: Path) -> None:
    """Copy every file of the checkout that git tracks or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, destination / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def build(work: Path) -> Path:
    """Build the archive and return its path."""
    source = work / "source"
    export(source)
    run([str(BIN / "ansible-galaxy"), "collection", "build", "--output-path", str(work)], cwd=source)
    return next(work.glob("gpuops-eks-*.tar.gz"))


def installed(work: Path, archive: Path) -> Path:
    """Install the archive as a user would, with the collections it depends on linked beside it; return its directory."""
    collections = work / "ansible_collections"
    install = ["collection", "install", "--offline", "--no-deps", "--force", "--collections-path", str(work), str(archive)]
    run([str(BIN / "ansible-galaxy"), *install], cwd=work)
    for name in DEPENDENCIES:
        namespace, collection = name.split(".")
        spec = importlib.util.find_spec(f"ansible_collections.{namespace}")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(f"collection: {name} is not in this environment")
        (collections / namespace).mkdir()
        (collections / namespace / collection).symlink_to(Path(spec.submodule_search_locations[0]) / collection)
    return collections / "gpuops" / "eks"


def sanity_home() -> Path:
    """Return the home directory of ansible-test, which keeps its virtual environments and finds its pip bootstrap script there."""
    directory = project_cache() / "sanity-home"
    scripts = directory / ".ansible" / "test" / "cache"
    scripts.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.find_spec("ansible_test")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("collection: ansible-test is not in this environment")
    source = Path(spec.submodule_search_locations[0]) / "_internal" / "python_requirements.py"
    versions = re.findall(r"pip='([\d.]+)'", source.read_text(encoding="utf-8"))
    if not versions:
        raise SystemExit(f"collection: {source} does not say any more which pip ansible-test wants")
    for version in versions:
        (scripts / f"get_pip_{version.replace('.', '_')}.py").write_text(PIP_BOOTSTRAP, encoding="utf-8")
    share_pip_settings(directory)
    return directory


def share_pip_settings(home: Path) -> None:
    """Let pip find the user's own settings in the other home directory: ansible-test passes none of the PIP_ variables on."""
    for name in (".pip", ".config/pip"):
        own, there = Path.home() / name, home / name
        if own.is_dir() and not there.is_symlink():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(own)


def sanity(work: Path) -> None:
    """Run all of ansible-test's sanity tests on what users get and on the tests."""
    target = installed(work, build(work))
    shutil.copytree(work / "source" / "tests", target / "tests", symlinks=True)
    git = ["git", "-c", "user.name=gpuops.eks", "-c", "user.email=gpuops.eks@localhost"]
    run([*git, "init", "--quiet"], cwd=target)
    run([*git, "add", "--all"], cwd=target)
    run([*git, "commit", "--quiet", "--message", "what is tested"], cwd=target)
    home = sanity_home()
    environment = {**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    with open(home / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(
            [str(BIN / "ansible-test"), "sanity", "--requirements", "--color", "no", "--python", python],
            cwd=target,
            environment=environment,
        )


def docs(work: Path) -> None:
    """Lint the documentation of every plugin and role, with its references to the collections that ours depends on."""
    target = installed(work, build(work))
    command = [
        "lint-collection-docs",
        "--plugin-docs",
        "--validate-collection-refs",
        "dependent",
        "--disallow-unknown-collection-refs",
        ".",
    ]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(work), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    run([str(BIN / "antsibull-docs"), *command], cwd=target, environment=environment)
    run([str(BIN / "antsibull-changelog"), "lint"], cwd=ROOT)


def check_content(archive: Path) -> None:
    """SystemExit where the archive holds what users of the collection do not need, or lacks what they do."""
    with tarfile.open(archive) as handle:
        names = [name for name in handle.getnames() if not name.endswith(("/", "."))]
    tops = {name.split("/")[0] for name in names}
    strangers = sorted(tops.difference(SHIPPED)) + [name for name in names if name.endswith(".pyc") or name.startswith("inventories/lab")]
    missing = sorted(SHIPPED.difference(tops, OPTIONAL))
    if strangers or missing:
        raise SystemExit(f"collection: the archive holds {strangers or 'no stranger'} and lacks {missing or 'nothing'}")


def galaxy(work: Path) -> None:
    """Look into the archive, and hand it to Galaxy's own importer; a warning of it is a failure too."""
    archive = build(work)
    check_content(archive)
    environment = {
        **os.environ,
        "GALAXY_IMPORTER_CONFIG": str(ROOT / "tools" / "galaxy-importer.cfg"),
        "GALAXY_IMPORTER_TMP_ROOT_DIR": str(work),
        "GALAXY_IMPORTER_ANSIBLE_LOCAL_TMP": str(work / "ansible"),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "galaxy_importer.main", str(archive)]
    print(f"+ {' '.join(command)}", flush=True)
    done = subprocess.run(
        command,
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, flush=True)
    complaints = [line for line in done.stdout.splitlines() if line.startswith(("WARNING", "ERROR", "CRITICAL"))]
    if done.returncode or complaints:
        raise SystemExit(f"galaxy-importer: exit code {done.returncode}, {len(complaints)} complaints")


CHECKS = {"sanity": sanity, "docs": docs, "galaxy": galaxy}


def main() -> None:
    """Run the check that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=CHECKS)
    check = CHECKS[parser.parse_args().check]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the work directory is removed
    try:
        with work_directory() as work:
            check(work)
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.returncode) from error


if __name__ == "__main__":
    main()
