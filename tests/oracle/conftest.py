# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's programs, built once, and a kubelet to register with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import binaries
from lab.binaries import DevicePluginBinaries
from tests.oracle.programs import Kubelet, kubelet, unshare


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - pytest shows it where something fails


@pytest.fixture(scope="session")
def programs() -> DevicePluginBinaries:
    return binaries.device_plugin(say)


@pytest.fixture(scope="session")
def mig_parted() -> Path:
    return binaries.mig_parted(say)


@pytest.fixture(scope="session")
def node(programs: DevicePluginBinaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    """A kubelet. The plugin's socket directory is fixed, so that it takes a mount namespace, which not every user may have."""
    namespace = unshare()
    if namespace is None:
        pytest.skip("the real device plugin needs a mount namespace of its own: root, or user namespaces")
    with kubelet(programs, tmp_path_factory.mktemp("kubelet"), namespace) as running:
        yield running
