# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster costs in a month, and which types a pool gets by their names alone."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.prices import fixed, on_demand
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.estimate import (
    Nodes,
    Prices,
    Shape,
    by_name,
    estimate,
    offline_nodes,
    unresolved,
)

PRICES = Prices(region="us-east-1", instances=on_demand("us-east-1"), fixed=fixed("us-east-1"), as_of="2026-07-06")


def pool(**options: t.Any) -> Pool:
    return Pool.from_params({"name": "p", "instances": {"types": ["g5.2xlarge"]}, **options})


def lines(nodes: t.Sequence[Nodes] = (), shape: Shape | None = None, prices: Prices = PRICES) -> dict[str, tuple[t.Any, t.Any]]:
    found = estimate(nodes, shape or Shape(), prices)["lines"]
    return {line["subject"]: (line["per_month"], line["per_month_max"]) for line in found}


def test_control_plane_alone() -> None:
    found = estimate([], Shape(), PRICES)
    assert found == {
        "currency": "USD",
        "per_month": 73.0,
        "per_month_max": 73.0,
        "complete": True,
        "complete_max": True,
        "source": "shipped",
        "as_of": "2026-07-06",
        "lines": [
            {
                "subject": "control plane, standard support",
                "unit": "hour",
                "quantity": 1,
                "quantity_max": 1,
                "price": 0.10,
                "price_max": 0.10,
                "per_month": 73.0,
                "per_month_max": 73.0,
            }
        ],
    }


def test_what_there_is_besides_nodes() -> None:
    assert lines(shape=Shape(extended_support=True, nat_gateways=3, endpoint_interfaces=20, keys=2)) == {
        "control plane, extended support": (438.0, 438.0),
        "NAT gateways": (98.55, 98.55),
        "public IPv4 addresses": (10.95, 10.95),
        "interface endpoints, one per zone": (146.0, 146.0),
        "encryption keys": (2.0, 2.0),
    }


def test_smallest_size_has_the_first_type_largest_the_most_expensive() -> None:
    nodes = Nodes(pool=pool(), capacity_type="on_demand", types=("g5.2xlarge", "g5.xlarge", "g5.4xlarge"), min=1, max=3)
    assert lines([nodes])["pool p: g5.2xlarge and 2 more, on_demand"] == (884.76, 3556.56)


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        ({}, {"gp3": (16.0, 32.0), "gp3 throughput": (19.0, 38.0)}),
        ({"size_gib": 100, "throughput": 125}, {"gp3": (8.0, 16.0)}),
        ({"size_gib": 100, "throughput": 125, "iops": 4000}, {"gp3": (8.0, 16.0), "gp3 IOPS": (5.0, 10.0)}),
        ({"size_gib": 100, "type": "io2", "iops": 4000}, {"io2": (None, None)}),
    ],
)
def test_disks(disk: dict[str, t.Any], expected: dict[str, tuple[t.Any, t.Any]]) -> None:
    nodes = Nodes(pool=pool(disk=disk), capacity_type="on_demand", types=("g5.2xlarge",), min=1, max=2)
    found = {name.removeprefix("pool p: disks, "): months for name, months in lines([nodes]).items() if "disks" in name}
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "types", "least", "complete", "complete_max"),
    [
        ("on_demand", ("g5.2xlarge",), 1, True, True),
        ("on_demand", ("g5.2xlarge", "g99.large"), 1, True, False),
        ("on_demand", ("g99.large", "g5.2xlarge"), 1, False, False),
        ("on_demand", (), 1, False, False),
        ("spot", ("g5.2xlarge",), 1, False, False),
        ("spot", ("g5.2xlarge",), 0, True, False),
    ],
)
def test_a_price_that_is_unknown_is_null_and_never_zero(
    kind: str, types: tuple[str, ...], least: int, complete: bool, complete_max: bool
) -> None:
    found = estimate([Nodes(pool=pool(), capacity_type=kind, types=types, min=least, max=2)], Shape(), PRICES)
    assert (found["complete"], found["complete_max"]) == (complete, complete_max)
    unknown = [line for line in found["lines"] if line["per_month_max"] is None]
    assert bool(unknown) is not complete_max


def test_a_region_without_prices_is_unknown_but_for_what_costs_the_same_everywhere() -> None:
    nodes = Nodes(pool=pool(), capacity_type="on_demand", types=("g5.2xlarge",), min=1, max=2)
    found = estimate([nodes], Shape(nat_gateways=1), Prices(region="eu-central-1", fixed=fixed("eu-central-1")))
    known = {line["subject"]: line["per_month"] for line in found["lines"]}
    assert known == {
        "control plane, standard support": 73.0,
        "NAT gateways": None,
        "public IPv4 addresses": 3.65,
        "pool p: g5.2xlarge, on_demand": None,
        "pool p: disks, gp3": None,
        "pool p: disks, gp3 throughput": None,
    }
    assert (found["per_month"], found["complete"], found["as_of"]) == (76.65, False, None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scaling": {"min": 1, "max": 3}}, [(("g5.2xlarge",), 1, 3)]),
        ({"scaling": {"min": 1, "max": 3, "scope": "zone"}}, [(("g5.2xlarge",), 2, 6)]),
        ({"zones": ["usw2-az1"], "scaling": {"min": 1, "max": 3, "scope": "zone"}}, [(("g5.2xlarge",), 1, 3)]),
        ({"scaling": {"min": 0, "max": 4}, "limits": {"gpus": 2}}, [(("g5.2xlarge",), 0, 2)]),
        ({"instances": {"families": ["g5"], "cpus": {"max": 8}}}, [(("g5.xlarge", "g5.2xlarge"), 0, 10)]),
        ({"instances": {"families": ["g5", "g5g"], "sizes": ["xlarge"]}}, [(("g5.xlarge",), 0, 10)]),
        ({"instances": {"families": ["g6", "g5"], "gpu": {"models": ["l4"]}, "sizes": ["xlarge"]}}, [(("g6.xlarge",), 0, 10)]),
        (
            {"instances": {"families": ["g5"], "sizes": ["2xlarge", "12xlarge"]}, "scaling": {"min": 4, "max": 8}},
            [(("g5.2xlarge",), 2, 4), (("g5.12xlarge",), 2, 4)],
        ),
        ({"accelerator": "none", "instances": {"types": ["m6i.large", "m5.large"]}}, [(("m5.large", "m6i.large"), 0, 10)]),
        (
            {"accelerator": "none", "instances": {"families": ["m7g"], "architectures": ["arm64"], "cpus": {"max": 1}}},
            [(("m7g.medium",), 0, 10)],
        ),
    ],
)
def test_types_by_their_names(options: dict[str, t.Any], expected: list[tuple[tuple[str, ...], int, int]]) -> None:
    found = offline_nodes(pool(**options), ["us-west-2a", "us-west-2b"])
    assert [(part.types, part.min, part.max) for part in found] == expected


def test_a_type_that_nobody_knows_keeps_its_number_of_nodes() -> None:
    found = offline_nodes(pool(instances={"families": ["g99"]}, scaling={"min": 2, "max": 3}), ["us-west-2a"])
    assert found == [unresolved(pool(instances={"families": ["g99"]}, scaling={"min": 2, "max": 3}))]
    assert (found[0].types, found[0].min, found[0].max) == ((), 2, 3)


@pytest.mark.parametrize(
    ("name", "vcpus", "architecture", "gpus"),
    [
        ("g5.2xlarge", 8, "amd64", 1),
        ("g5.48xlarge", 192, "amd64", 8),
        ("g5g.xlarge", 4, "arm64", 1),
        ("g6f.large", 2, "amd64", 1),
        ("p5.4xlarge", 16, "amd64", 1),
        ("m7g.medium", 1, "arm64", 0),
        ("t3.medium", 2, "amd64", 0),
        ("im4gn.large", 2, "arm64", 0),
        ("c7i.metal-24xl", 96, "amd64", 0),
    ],
)
def test_what_a_name_says(name: str, vcpus: int, architecture: str, gpus: int) -> None:
    found = by_name(name)
    assert (found.vcpus, found.architectures, found.gpus) == (vcpus, frozenset({architecture}), gpus)
