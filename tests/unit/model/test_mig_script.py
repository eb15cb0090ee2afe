# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that cuts GPUs, run with programs in place of nvidia-smi and systemctl that do what the MIG User Guide says of them."""

from __future__ import annotations

import json
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES
from ansible_collections.gpuops.eks.plugins.module_utils._model.mig_script import parse, render
from hypothesis import given
from hypothesis import strategies as st

BALANCED = {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}
# What two GPUs do is kept in a file; `resets` says whether a change of the mode is in force at once.
PROGRAM = r"""#!/usr/bin/env python3
import json, os, pathlib, sys
state = pathlib.Path(os.environ["STATE"])
gpus, arguments = json.loads(state.read_text()), sys.argv[1:]
name = pathlib.Path(sys.argv[0]).name
with state.with_suffix(".log").open("a") as log:
    log.write(" ".join([name, *arguments]) + "\n")
def mode(which): print("\n".join(gpus[which]))
def save(): state.write_text(json.dumps(gpus))
if name == "systemctl":
    sys.exit(0 if arguments[0] != "is-enabled" or arguments[-1] in gpus["units"] else 1)
if name == "sleep":
    sys.exit(143)
if arguments == ["-L"]:
    if gpus.get("driver") is False: sys.exit(9)
    for gpu in range(2):
        print(f"GPU {gpu}: NVIDIA A100-SXM4-40GB (UUID: GPU-{gpu})")
        for index, profile in enumerate(gpus["made"][gpu]): print(f"  MIG {profile:<12} Device  {index}: (UUID: MIG-{gpu}{index})")
elif arguments[0].startswith("--query-gpu=mig.mode."):
    mode(arguments[0].rpartition(".")[2])
elif arguments == ["-mig", "1"]:
    if gpus["capable"]:
        gpus["pending"] = ["Enabled"] * 2
        if gpus["resets"]: gpus["current"] = ["Enabled"] * 2
    save()
elif arguments[:2] == ["mig", "-lgi"]:
    print("| GPU   Name             Profile  Instance   Placement  |")
    for gpu in range(2):
        for index, profile in enumerate(gpus["made"][gpu]): print(f"|   {gpu}  MIG {profile:<16} 19        {index}          {index}:1     |")
elif arguments[:2] == ["mig", "-cgi"]:
    tuples = [one.partition(":") for one in arguments[2].split(",")]
    fits = all(place for _name, _colon, place in tuples) or not gpus.get("astray")
    for gpu in range(gpus.get("takes", 2)): gpus["made"][gpu] += [name for name, _colon, _place in tuples[: None if fits else 2]]
    save()
    sys.exit(0 if fits else 19)
elif arguments[:2] == ["mig", "-dgi"]:
    gpus["made"] = [[], []]
    save()
"""
FRESH: dict[str, t.Any] = {
    "units": ["nvidia-persistenced.service", "set-nvidia-clocks.service"],
    "capable": True,
    "resets": True,
    "current": ["Disabled", "Disabled"],
    "pending": ["Disabled", "Disabled"],
    "made": [[], []],
}


class Node:
    """A node of two GPUs with the script of a layout."""

    def __init__(self, path: Path, layout: dict[str, int], **gpus: t.Any) -> None:
        self.path = path
        self.state = path / "state.json"
        self.state.write_text(json.dumps({**FRESH, **gpus}))
        for name in ("nvidia-smi", "systemctl", "sleep"):
            (path / name).write_text(PROGRAM)
            (path / name).chmod(0o755)
        _head, _begin, rest = render(layout).partition("<<'GPUOPS_MIG'\n")
        self.script = rest.partition("\nGPUOPS_MIG\n")[0].replace("/var/lib/gpuops", str(path)).replace("{1..60}", "{1..2}")

    def boot(self) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.path}:/usr/bin:/bin", "STATE": str(self.state)}
        return subprocess.run(["/bin/bash", "-c", self.script], env=environment, capture_output=True, text=True, check=False, timeout=60)

    @property
    def gpus(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", json.loads(self.state.read_text()))

    def set(self, **gpus: t.Any) -> None:
        self.state.write_text(json.dumps({**self.gpus, **gpus}))

    @property
    def calls(self) -> list[str]:
        return self.state.with_suffix(".log").read_text().splitlines()

    @property
    def waits_for_reboot(self) -> bool:
        return (self.path / "mig-rebooted").exists()


def test_each_gpu_gets_the_layout_largest_first(tmp_path: Path) -> None:
    node = Node(tmp_path, BALANCED)
    done = node.boot()
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.gpus["made"] == [["3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"]] * 2
    assert "in force on each GPU: 3g.20gb,2g.10gb,1g.5gb,1g.5gb" in done.stdout


def test_what_holds_the_gpus_is_stopped_for_it_and_started_again(tmp_path: Path) -> None:
    node = Node(tmp_path, BALANCED)
    node.boot()
    changes = [call for call in node.calls if call.startswith(("systemctl st", "nvidia-smi -mig", "nvidia-smi mig -c"))]
    assert changes == [
        "systemctl stop set-nvidia-clocks.service",
        "systemctl stop nvidia-persistenced.service",
        "nvidia-smi -mig 1",
        "nvidia-smi mig -cgi 3g.20gb,2g.10gb,1g.5gb,1g.5gb -C",
        "systemctl start --no-block nvidia-persistenced.service",
        "systemctl start --no-block set-nvidia-clocks.service",
    ]


def test_instances_that_the_driver_places_in_each_others_way_get_legal_places(tmp_path: Path) -> None:
    node = Node(tmp_path, {"3g.20gb": 1, "2g.10gb": 2}, astray=True)
    done = node.boot()
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.gpus["made"] == [["3g.20gb", "2g.10gb", "2g.10gb"]] * 2, "what was made before is gone"
    assert "nvidia-smi mig -cgi 3g.20gb:4,2g.10gb:2,2g.10gb:0 -C" in node.calls


@pytest.mark.parametrize("key", sorted(PROFILES))
def test_places_are_legal_and_do_not_overlap(key: str) -> None:
    full = {name: profile.most for name, profile in PROFILES[key].items()}
    for name, most in full.items():
        [line] = [line.strip() for line in render({name: most}).splitlines() if line.strip().startswith("mig -cgi ")]
        starts = [int(one.partition(":")[2]) for one in line.split()[2].split(",")]
        assert len(set(starts)) == most
        assert set(starts) <= set(PROFILES[key][name].starts)


def test_of_a_new_product_the_driver_finds_the_places() -> None:
    assert "  mig -cgi 1g.99gb,1g.99gb -C\n" in render({"1g.99gb": 2})


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, BALANCED)
    node.boot()
    before = len(node.calls)
    assert node.boot().returncode == 0
    assert [
        call for call in node.calls[before:] if not call.startswith(("nvidia-smi -L", "nvidia-smi --query", "nvidia-smi mig -lgi"))
    ] == []


def test_instances_that_a_reboot_took_are_made_again(tmp_path: Path) -> None:
    node = Node(tmp_path, {"1g.5gb": 7})
    node.boot()
    node.set(made=[[], []])
    assert node.boot().returncode == 0
    assert node.gpus["made"] == [["1g.5gb"] * 7] * 2


@pytest.mark.parametrize("there", [[["1g.5gb"] * 6, ["1g.5gb"] * 7], [["1g.5gb+me"] * 7] * 2, [[*["1g.5gb"] * 7, "1g.5gb+me"]] * 2])
def test_another_layout_is_replaced(tmp_path: Path, there: list[list[str]]) -> None:
    node = Node(tmp_path, {"1g.5gb": 7}, current=["Enabled"] * 2, pending=["Enabled"] * 2, made=there)
    assert node.boot().returncode == 0
    assert node.gpus["made"] == [["1g.5gb"] * 7] * 2


def test_a_mode_that_is_pending_takes_one_reboot(tmp_path: Path) -> None:
    node = Node(tmp_path, {"1g.5gb": 7}, resets=False)
    assert node.boot().returncode != 0, "kubelet must not start before the reboot"
    assert "systemctl reboot" in node.calls
    assert node.waits_for_reboot
    assert node.gpus["made"] == [[], []]
    node.set(current=node.gpus["pending"])
    assert node.boot().returncode == 0
    assert node.gpus["made"] == [["1g.5gb"] * 7] * 2
    assert not node.waits_for_reboot, "a later start on another machine may need one again"


def test_a_mode_that_stays_pending_is_an_error_and_no_second_reboot(tmp_path: Path) -> None:
    node = Node(tmp_path, {"1g.5gb": 7}, resets=False)
    node.boot()
    done = node.boot()
    assert (done.returncode, node.calls.count("systemctl reboot")) == (1, 1)
    assert "still pending after a reboot; kubelet stays down" in done.stdout


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        ({"capable": False}, "the GPUs do not take MIG mode"),
        ({"takes": 1}, "the layout is not in force"),
        ({"driver": False}, "nvidia-smi finds no GPU"),
    ],
)
def test_without_the_layout_the_unit_fails(tmp_path: Path, gpus: dict[str, t.Any], said: str) -> None:
    node = Node(tmp_path, {"1g.5gb": 7}, **gpus)
    node.path.joinpath("sleep").write_text("#!/bin/sh\n")
    done = node.boot()
    assert done.returncode == 1
    assert f"{said}; kubelet stays down" in done.stdout


def test_kubelet_and_what_starts_it_need_the_unit() -> None:
    text = render(BALANCED)
    unit = text.partition("gpuops-mig.service <<'GPUOPS_MIG'\n")[2].partition("\nGPUOPS_MIG\n")[0]
    assert "Before=nodeadm-run.service kubelet.service\n" in unit
    assert "RequiredBy=nodeadm-run.service kubelet.service" in unit
    assert text.rstrip().endswith("systemctl enable gpuops-mig.service\nsystemctl start gpuops-mig.service")


def test_it_is_a_script_of_bash(tmp_path: Path) -> None:
    path = tmp_path / "user-data.sh"
    path.write_text(render(BALANCED))
    subprocess.run(["/bin/bash", "-n", str(path)], check=True)
    assert len(path.read_bytes()) < 8 * 1024, "user data has 16 KiB for everything"


LAYOUTS = st.sampled_from(sorted(PROFILES)).flatmap(
    lambda key: st.dictionaries(st.sampled_from(sorted(PROFILES[key])), st.integers(1, 7), min_size=1, max_size=4)
)


@given(LAYOUTS)
def test_the_layout_is_read_back(layout: dict[str, int]) -> None:
    text = render(layout)
    assert parse(text) == layout
    assert render(dict(reversed(layout.items()))) == text
    [by_name] = [line.partition("nvidia-smi mig -cgi ")[2].split()[0] for line in text.splitlines() if "nvidia-smi mig -cgi " in line]
    assert sorted(by_name.split(",")) == sorted(name for name, count in layout.items() for _each in range(count))


def test_no_script_no_layout() -> None:
    assert parse("#!/bin/sh\n") == {}
