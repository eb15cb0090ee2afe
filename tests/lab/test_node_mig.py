# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Multi-Instance GPU on a node: profiles and layouts (MIG User Guide), the plugin's strategies and labels (k8s-device-plugin)."""

from __future__ import annotations

import base64
import collections
import itertools
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog import mig as catalog

from lab.nodes import features, mig
from lab.nodes.mig import Call, Layout
from lab.nodes.sharing import ConfigRefused, Gpus, advertised, parse
from lab.nodes.userdata import CannotBoot
from lab.nodes.userdata import parse as boot

A100, H100, RTX = (mig.product(*found) for found in (("a100", 40960), ("h100", 81920), ("rtx pro server 6000", 98304)))
KEYS = {"a100-40": A100, "h100": H100, "rtx-pro-6000": RTX}
SEVENTHS, BALANCED = ("1g.5gb",) * 7, ("3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb")


@pytest.mark.parametrize(
    ("of", "profiles", "message"),
    [
        (A100, SEVENTHS, None),
        (A100, BALANCED, None),
        (A100, ("1g.5gb", "1g.5gb", "2g.10gb", "3g.20gb"), None),
        (A100, ("1g.5gb+me", *SEVENTHS[1:]), None),
        (A100, ("4g.20gb", "2g.10gb", "1g.5gb"), None),
        (A100, ("3g.20gb", "3g.20gb", "1g.5gb"), "Insufficient Resources"),
        (A100, ("4g.20gb", "4g.20gb"), "at most 1"),
        (A100, ("4g.20gb", "3g.20gb", "1g.5gb"), "Insufficient Resources"),
        (A100, ("1g.10gb",) * 5, "at most 4"),
        (A100, (*SEVENTHS, "1g.5gb+me"), "Insufficient Resources"),
        (A100, ("1g.24gb",), "no GPU instance profile 1g.24gb"),
        (RTX, ("2g.48gb", "1g.24gb", "1g.24gb"), None),
        (RTX, ("1g.24gb+me.all", "1g.24gb-me"), None),
        (RTX, ("1g.24gb+me.all", "1g.24gb"), "Insufficient Resources"),
        (RTX, ("2g.48gb",) * 3, "at most 2"),
    ],
)
def test_what_fits_on_one_gpu(of: mig.Product, profiles: tuple[str, ...], message: str | None) -> None:
    found = mig.why_not(of, profiles)
    assert found is None if message is None else message in str(found)


@pytest.mark.parametrize("key", KEYS)
def test_the_collections_catalogue_says_the_same_of_every_layout_of_four(key: str) -> None:
    """Two tables, made apart from each other."""
    of = KEYS[key]
    assert of is not None
    assert set(of.profiles) == set(catalog.PROFILES[key])
    for size in range(1, 5):
        for profiles in itertools.combinations_with_replacement(of.profiles, size):
            assert (mig.why_not(of, profiles) is None) == (catalog.misfit(key, collections.Counter(profiles)) is None), profiles


@pytest.mark.parametrize("name", ["t4", "a10g", "l4", "v100", "of another year"])
def test_gpus_without_mig(name: str) -> None:
    assert mig.product(name, 16384) is None


SCRIPT = "nvidia-smi -mig 1 || true\nnvidia-smi mig -dgi >/dev/null\n  nvidia-smi mig -cgi 3g.20gb,1g.5gb -C\n"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo nothing", ()),
        ("nvidia-smi -mig 1\nnvidia-smi mig -lgi", ()),
        (SCRIPT, (Call(("3g.20gb", "1g.5gb")),)),
        ("nvidia-smi -i 0 -mig 1; nvidia-smi mig -i 0,2 -cgi '1g.5gb' -C && true", (Call(("1g.5gb",), (0, 2)),)),
        ("nvidia-smi -mig 1\nnvidia-smi mig -cgi 1g.5gb", (Call(("1g.5gb",), devices=False),)),
    ],
)
def test_what_is_read_of_a_script(script: str, expected: tuple[Call, ...]) -> None:
    assert mig.calls(script) == expected


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("nvidia-smi mig -cgi 1g.5gb -C", "nothing turns MIG mode on"),
        ('nvidia-smi -mig 1\nnvidia-smi mig -cgi "$layout" -C', "names of profiles alone"),
        ("nvidia-smi -mig 1\nnvidia-smi mig -cgi 19,19 -C", "names of profiles alone"),
        ("nvidia-smi -mig 1\nnvidia-smi mig -i $gpu -cgi 1g.5gb -C", "numbers of GPUs alone"),
    ],
)
def test_scripts_that_fail_or_cannot_be_read(script: str, message: str) -> None:
    with pytest.raises(mig.Refused, match=message):
        mig.calls(script)


@pytest.mark.parametrize(
    ("calls", "gpus", "expected"),
    [
        ((), 8, ()),
        ((Call(SEVENTHS),), 2, (SEVENTHS, SEVENTHS)),
        ((Call(SEVENTHS, (0,)),), 2, (SEVENTHS, None)),
        ((Call(("3g.20gb",)), Call(("1g.5gb",), (1,))), 2, (("3g.20gb",), ("3g.20gb", "1g.5gb"))),
        ((Call(SEVENTHS, devices=False),), 1, ((),)),
    ],
)
def test_layouts(calls: tuple[Call, ...], gpus: int, expected: tuple[Layout, ...]) -> None:
    assert mig.layouts(calls, A100, gpus) == expected


@pytest.mark.parametrize(
    ("calls", "of", "message"),
    [
        ((Call(("1g.5gb",)),), None, "Unable to enable MIG Mode: Not Supported"),
        ((Call(("1g.10gb",) * 5),), A100, "on GPU 0: 5 of 1g.10gb"),
        ((Call(("1g.24gb",)),), A100, "no GPU instance profile 1g.24gb"),
        ((Call(("1g.5gb",), (1,)),), A100, "No devices were found"),
    ],
)
def test_layouts_that_cannot_be_had(calls: tuple[Call, ...], of: mig.Product | None, message: str) -> None:
    with pytest.raises(mig.Refused, match=message):
        mig.layouts(calls, of, 1)


@pytest.mark.parametrize(
    ("settings", "model", "expected"),
    [
        ({"a100.40gb": "1g.5gb"}, ("a100", 40960), SEVENTHS),
        ({"a100.40gb": "2g.10gb"}, ("a100", 40960), ("2g.10gb",) * 3),
        ({"a100.40gb": "7"}, ("a100", 40960), SEVENTHS),
        ({"h100.80gb": "1"}, ("h100", 81920), ("7g.80gb",)),
        ({"h100.80gb": "2"}, ("h100", 81920), ("3g.40gb",) * 2),
        ({"h100.80gb": "7"}, ("a100", 40960), None),
        ({}, ("a100", 40960), None),
    ],
)
def test_bottlerocket_fills_the_gpu_with_one_profile(
    settings: dict[str, str], model: tuple[str, int], expected: tuple[str, ...] | None
) -> None:
    """Settings reference, kubelet-device-plugins.nvidia.mig.profile: 2g.10gb makes 24 of a p4d's GPUs, 1g.20gb 32 of a p5's."""
    assert mig.bottlerocket_calls(settings, *model) == (() if expected is None else (Call(expected),))


# ---- user data


def encoded(*parts: tuple[str, str]) -> str:
    body = "".join(f"--XX\nContent-Type: {kind}\n\n{text}\n" for kind, text in parts)
    return base64.b64encode(f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="XX"\n\n{body}--XX--\n'.encode()).decode()


def test_scripts_of_user_data_part_the_gpus() -> None:
    """amazon-eks-ami: cloud-init runs the scripts of user data before nodeadm starts kubelet."""
    text = encoded(("text/x-shellscript", f"#!/bin/bash\ncat >/etc/x <<'E'\n{SCRIPT}E\n"), ("text/x-shellscript", "#!/bin/sh\ntrue\n"))
    assert boot(text, bottlerocket=False, managed=True).mig_calls == (Call(("3g.20gb", "1g.5gb")),)
    alone = base64.b64encode(f"#!/bin/bash\n{SCRIPT}".encode()).decode()
    assert boot(alone, bottlerocket=False, managed=True).mig_calls == (Call(("3g.20gb", "1g.5gb")),)
    with pytest.raises(CannotBoot, match=r"kubelet does not start: .*nothing turns MIG mode on"):
        boot(encoded(("text/x-shellscript", "nvidia-smi mig -cgi 1g.5gb -C")), bottlerocket=False, managed=True)


# ---- the plugin's strategies

HALF: tuple[Layout, ...] = (("1g.10gb",) * 7,) * 4 + (None,) * 4


def strategy(name: str, sharing: str = "{}") -> str:
    return f"flags: {{migStrategy: {name}}}\nsharing: {sharing}"


def slices(resource: str, replicas: int, rename: str = "false") -> str:
    return f"{{timeSlicing: {{renameByDefault: {rename}, resources: [{{name: {resource}, replicas: {replicas}}}]}}}}"


@pytest.mark.parametrize(
    ("text", "layouts", "expected"),
    [
        pytest.param(strategy("single"), (SEVENTHS,) * 8, {"nvidia.com/gpu": 56}, id="p4d, single, all-1g.5gb"),
        pytest.param(
            strategy("mixed"),
            (BALANCED,) * 8,
            {"nvidia.com/mig-1g.5gb": 16, "nvidia.com/mig-2g.10gb": 8, "nvidia.com/mig-3g.20gb": 8},
            id="p4d, mixed, all-balanced",
        ),
        pytest.param(strategy("mixed", slices("nvidia.com/mig-1g.5gb", 2)), (SEVENTHS,) * 8, {"nvidia.com/mig-1g.5gb": 112}, id="sliced"),
        pytest.param(strategy("single", slices("nvidia.com/gpu", 2)), (SEVENTHS,) * 8, {"nvidia.com/gpu": 112}, id="single, sliced"),
        pytest.param(
            strategy("mixed", slices("mig-1g.5gb", 2, "true")), (SEVENTHS,), {"nvidia.com/mig-1g.5gb.shared": 14}, id="sliced and renamed"
        ),
        pytest.param(strategy("single"), (("1g.24gb",) * 4,), {"nvidia.com/gpu": 4}, id="g7e.2xlarge, single"),
        pytest.param(strategy("mixed"), HALF, {"nvidia.com/mig-1g.10gb": 28, "nvidia.com/gpu": 4}, id="p5, mixed, half of it"),
        pytest.param(strategy("mixed"), (("1g.5gb+me",),), {"nvidia.com/mig-1g.5gb": 1}, id="a suffix does not count"),
        pytest.param(strategy("mixed"), ((), SEVENTHS), {"nvidia.com/mig-1g.5gb": 7}, id="mixed, one GPU empty"),
        pytest.param(strategy("none"), (SEVENTHS,) * 8, {"nvidia.com/gpu": 8}, id="none counts whole GPUs in MIG mode too"),
    ],
)
def test_what_a_parted_node_advertises(text: str, layouts: tuple[Layout, ...], expected: dict[str, int]) -> None:
    """internal/rm/device_map.go and rm.go."""
    assert advertised(parse(text), Gpus(count=len(layouts), mig=layouts)) == expected


@pytest.mark.parametrize(
    ("layouts", "message"),
    [
        ((BALANCED,) * 8, "more than one MIG device type present on node"),
        (HALF, "all devices on the node must be configured with the same migEnabled value"),
        ((SEVENTHS, ()), "device 1 has no MIG devices configured"),
    ],
)
def test_layouts_that_strategy_single_refuses(layouts: tuple[Layout, ...], message: str) -> None:
    """internal/rm/device_map.go, assertAllMigDevicesAreValid; internal/lm/mig-strategy.go, newMigStrategySingleLabeler."""
    gpus = Gpus(count=len(layouts), mig=layouts)
    with pytest.raises(ConfigRefused, match=message):
        advertised(parse(strategy("single")), gpus)
    found = labels("single", layouts)
    product = "NVIDIA-A100-SXM4-40GB-MIG-INVALID"
    expected = {"count": "0", "replicas": "0", "sharing-strategy": "", "memory": "0", "product": product}
    assert {name: found[f"nvidia.com/gpu.{name}"] for name in expected} == expected


# ---- labels


def labels(name: str, layouts: tuple[Layout, ...], sharing: str = "{}", model: tuple[str, int] = ("a100", 40960)) -> dict[str, str]:
    return features.labels(parse(strategy(name, sharing)), Gpus(count=len(layouts), mig=layouts), features.model(*model))


def test_labels_of_one_profile_under_single() -> None:
    found = labels("single", (SEVENTHS,) * 8, slices("nvidia.com/gpu", 2))
    expected = {
        "gpu.count": "56",
        "gpu.replicas": "2",
        "gpu.sharing-strategy": "time-slicing",
        "gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED",
        "gpu.slices.gi": "1",
        "mig.strategy": "single",
        "mig.capable": "true",
        "mps.capable": "false",
        "gpu.compute.major": "8",
    }
    assert {name: found[f"nvidia.com/{name}"] for name in expected} == expected


def test_labels_of_a_balanced_h100_under_mixed() -> None:
    """NVIDIA's own example of GPU feature discovery on one H100."""
    found = labels("mixed", (("3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"),), model=("h100", 81920))
    expected = {
        "gpu.count": "1",
        "gpu.replicas": "0",
        "gpu.product": "NVIDIA-H100-80GB-HBM3",
        "mig-1g.10gb.count": "2",
        "mig-1g.10gb.memory": "9984",
        "mig-1g.10gb.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
        "mig-1g.10gb.replicas": "1",
        "mig-2g.20gb.count": "1",
        "mig-2g.20gb.memory": "20096",
        "mig-3g.40gb.count": "1",
        "mig-3g.40gb.slices.ci": "3",
    }
    assert {name: found[f"nvidia.com/{name}"] for name in expected} == expected


def test_labels_of_a_node_of_which_half_is_parted() -> None:
    """internal/lm/mig-strategy.go, newGPULabelers: GPUs of one model are counted together."""
    found = labels("mixed", HALF, model=("h100", 81920))
    assert (found["nvidia.com/gpu.count"], found["nvidia.com/gpu.replicas"]) == ("8", "1")
    assert found["nvidia.com/mig-1g.10gb.count"] == "28"


def test_mps_over_mig_ends_feature_discovery() -> None:
    sharing = "{mps: {resources: [{name: gpu, replicas: 2}]}}"
    with pytest.raises(ConfigRefused, match="MPS sharing is not supported for mig devices"):
        labels("single", (SEVENTHS,), sharing)


@pytest.mark.parametrize(
    ("name", "memory", "expected"),
    [
        ("a100", 81920, {"product": "NVIDIA-A100-SXM4-80GB", "memory": "81920", "family": "ampere"}),
        ("h200", 144384, {"product": "NVIDIA-H200", "family": "hopper"}),
        ("b200", 183359, {"product": "NVIDIA-B200", "family": "blackwell"}),
        ("rtx pro server 6000", 98304, {"compute.major": "12"}),
        ("l40s", 45776, {"family": "ada-lovelace", "compute.minor": "9"}),
    ],
)
def test_labels_by_product(name: str, memory: int, expected: dict[str, str]) -> None:
    found: dict[str, t.Any] = features.labels(parse(None), Gpus(count=1), features.model(name, memory))
    assert {key: found[f"nvidia.com/gpu.{key}"] for key in expected} == expected
