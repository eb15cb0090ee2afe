# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment variables that programs are started with."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cache import ROOT

BIN = Path(sys.executable).parent


def checkout(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with this environment's programs first in PATH and the checkout's ansible.cfg in force.

    Ansible would keep modules below the home that the user's account names, which not every account has; HOME is where set-up found room.
    """
    home = Path(base.get("HOME") or tempfile.gettempdir())
    return {
        **base,
        "PATH": f"{BIN}{os.pathsep}{base.get('PATH', os.defpath)}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_REMOTE_TEMP": str(home / ".ansible" / "tmp"),
    }


def without_aws(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without anything that names an AWS account, so that what runs in them cannot reach one.

    The two files and the metadata address are what botocore asks next where no variable is set (boto3 guide, Credentials).
    """
    kept = {name: value for name, value in base.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
