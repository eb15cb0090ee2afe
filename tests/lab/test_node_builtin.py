# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bottlerocket's own device plugin by its settings (settings reference, settings.kubelet-device-plugins.nvidia)."""

from __future__ import annotations

import base64
import typing as t

import pytest

from lab.nodes import admission, builtin
from lab.nodes.sharing import Gpus, advertised
from lab.nodes.userdata import CannotBoot, parse


@pytest.mark.parametrize(
    ("settings", "gpus", "expected"),
    [
        ({}, Gpus(count=4), {"nvidia.com/gpu": 4}),
        ({"device-sharing-strategy": "none", "time-slicing": {"replicas": 4}}, Gpus(count=1), {"nvidia.com/gpu": 1}),
        ({"device-sharing-strategy": "time-slicing"}, Gpus(count=1), {"nvidia.com/gpu.shared": 2}),
        (
            {"device-sharing-strategy": "time-slicing", "time-slicing": {"replicas": 10, "rename-by-default": False}},
            Gpus(count=1),
            {"nvidia.com/gpu": 10},
        ),
        ({"device-sharing-strategy": "mps", "mps": {"replicas": 48, "rename-by-default": False}}, Gpus(count=1), {"nvidia.com/gpu": 48}),
        ({"device-partitioning-strategy": "mig"}, Gpus(count=2, mig=(("2g.10gb",) * 3,) * 2), {"nvidia.com/gpu": 6}),
        ({"device-partitioning-strategy": "mig"}, Gpus(count=2), {"nvidia.com/gpu": 2}),
    ],
)
def test_what_it_advertises(settings: dict[str, t.Any], gpus: Gpus, expected: dict[str, int]) -> None:
    assert advertised(builtin.config(settings), gpus) == expected


@pytest.mark.parametrize(
    ("settings", "refuses"),
    [
        ({"device-sharing-strategy": "time-slicing"}, True),
        ({"device-sharing-strategy": "time-slicing", "time-slicing": {"fail-requests-greater-than-one": False}}, False),
        ({"device-sharing-strategy": "mps"}, True),
        ({}, False),
    ],
)
def test_whether_it_refuses_several_shares(settings: dict[str, t.Any], refuses: bool) -> None:
    assert admission.refuses_several(builtin.config(settings), "", "nvidia.com/gpu") is refuses


TABLE = "[settings.kubelet-device-plugins.nvidia]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('device-sharing-strategy = "often"', "device-sharing-strategy: often is none of none, time-slicing, mps"),
        ('device-sharing-strategy = "mps"\nmps.replicas = 49', r"mps.replicas: 49 is not 2 to 48"),
        ('device-sharing-strategy = "time-slicing"\ntime-slicing.replicas = 1', r"time-slicing.replicas: 1 is not 2 or more"),
        ('device-sharing-strategy = "mps"\ndevice-partitioning-strategy = "mig"', "exclude each other"),
    ],
)
def test_settings_that_keep_the_machine_from_coming_up(text: str, message: str) -> None:
    with pytest.raises(CannotBoot, match=message):
        parse(base64.b64encode(f"{TABLE}{text}\n".encode()).decode(), bottlerocket=True, managed=True)
