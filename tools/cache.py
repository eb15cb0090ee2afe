# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything goes that is made outside the checkout. Runs on any Python from 3.8 on, before there is an environment.

As a script: prints the cache directory, or with ``--home`` a home directory that can be written to. The Makefile exports both, so that
every tool that it starts agrees on them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "gpuops.eks"


def usable(directory: Path) -> bool:
    """Return whether files can be made in the directory, which is created where it is missing."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=str(directory)):
            return True
    except OSError:
        return False


def own_temporary_directory() -> Path:
    """Return this user's directory below the system's temporary one; PermissionError where somebody else made it."""
    directory = Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to somebody else: set XDG_CACHE_HOME to a directory of your own")
    return directory


def home() -> Path:
    """Return the user's home directory, or one in the cache where that is missing or cannot be written to."""
    named = os.environ.get("HOME", "")
    if named and Path(named).is_dir() and os.access(named, os.W_OK):
        return Path(named)
    directory = project_cache() / "home"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def cache_home() -> Path:
    """Return the XDG cache directory (XDG Base Directory Specification 0.8), or a temporary one where it cannot be written to."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    user_home = os.environ.get("HOME", "")
    if os.path.isabs(named):
        wanted = named
    elif user_home:
        wanted = os.path.join(user_home, ".cache")
    else:
        wanted = ""
    if wanted and usable(Path(wanted)):
        return Path(wanted)
    fallback = own_temporary_directory()
    reason = f"{wanted} cannot be written to" if wanted else "neither XDG_CACHE_HOME nor HOME is set"
    sys.stderr.write(f"cache: {reason}, so {fallback} is used\n")
    return fallback


def project_cache() -> Path:
    """Return this project's directory in the cache."""
    return cache_home() / NAME


if __name__ == "__main__":
    sys.stdout.write(f"{home() if '--home' in sys.argv[1:] else cache_home()}\n")
