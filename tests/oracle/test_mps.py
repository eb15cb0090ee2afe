# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which MPS control daemons NVIDIA's own code would start, and for how many clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS, mps_clients
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_manifests import MPS_DAEMON, daemon_set

from lab.binaries import DevicePluginBinaries
from lab.nodes import mps, sharing
from tests.oracle.configurations import model
from tests.oracle.machines import Machine
from tests.oracle.programs import mps_daemons

PIPE = "/mps/nvidia.com/gpu/pipe"


def file(replicas: int) -> str:
    return f"version: v1\nsharing: {{mps: {{resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]}}}}\n"


@pytest.mark.parametrize("key", GPUS)
def test_the_catalogues_number_of_clients_is_the_most(programs: DevicePluginBinaries, tmp_path: Path, key: str) -> None:
    machine, most = Machine(key=key, gpus=4), mps_clients(GPUS[key])
    assert mps_daemons(programs, tmp_path, file(most), machine) == ([PIPE], "")
    pipes, error = mps_daemons(programs, tmp_path, file(most + 1), machine)
    assert (pipes, error.rpartition(": ")[2]) == ([], f"{most + 1} > {most}")
    gpus = sharing.Gpus(count=4, compute=GPUS[key].compute)
    assert mps.served(sharing.parse(file(most)), gpus) == {"nvidia.com/gpu"}
    with pytest.raises(sharing.ConfigRefused) as refused:
        mps.served(sharing.parse(file(most + 1)), gpus)
    assert str(refused.value).endswith(error)


def test_none_is_started_without_mps(programs: DevicePluginBinaries, tmp_path: Path) -> None:
    assert mps_daemons(programs, tmp_path, "version: v1\n", Machine()) == ([], "")


def test_readiness_asks_where_the_daemon_listens(programs: DevicePluginBinaries, tmp_path: Path) -> None:
    wanted = model([{"name": "a", "sharing": {"strategy": "mps", "replicas": 5}}])
    manifest = daemon_set(wanted, wanted.configurations[0], MPS_DAEMON)
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    pipes, _error = mps_daemons(programs, tmp_path, wanted.configurations[0].file, Machine())
    assert pipes == [PIPE]
    assert f"CUDA_MPS_PIPE_DIRECTORY={PIPE} " in " ".join(container["readinessProbe"]["exec"]["command"])
