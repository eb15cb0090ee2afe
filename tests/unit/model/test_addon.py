# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of add-ons, and add-ons as EKS describes them."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.addon import Addon, Offer, Wanted, version_order

API: dict[str, t.Any] = {"addonName": "x", "addonArn": "arn", "status": "ACTIVE", "addonVersion": "v1"}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("v1.9.0-eksbuild.1", "v1.10.0-eksbuild.1"),
        ("v1.19.0-eksbuild.9", "v1.19.0-eksbuild.10"),
        ("v1.19.9-eksbuild.9", "v1.20.0-eksbuild.1"),
        ("1.2.3", "v1.2.3-eksbuild.1"),
    ],
)
def test_versions_are_ordered_by_their_numbers(older: str, newer: str) -> None:
    assert version_order(older) < version_order(newer)


OFFER = Offer(versions=("v3", "v2", "v1"), default="v2")


@pytest.mark.parametrize(("word", "version"), [(None, "v2"), ("default", "v2"), ("latest", "v3"), ("v1", "v1"), ("v4", None)])
def test_what_a_version_means(word: str | None, version: str | None) -> None:
    assert OFFER.resolve(word) == version


@pytest.mark.parametrize("word", [None, "default", "latest", "v1"])
def test_nothing_is_offered(word: str | None) -> None:
    assert Offer.from_api([], "1.34").resolve(word) is None


def test_an_offer_is_that_of_the_clusters_version() -> None:
    def info(version: str, **by_cluster: bool) -> dict[str, t.Any]:
        there = [{"clusterVersion": name.replace("_", "."), "defaultVersion": default} for name, default in by_cluster.items()]
        return {"addonVersion": version, "compatibilities": there}

    infos = [info("v1.2.0", **{"1_33": True, "1_34": False}), info("v1.10.0", **{"1_34": True}), info("v1.1.0", **{"1_33": False})]
    assert Offer.from_api([{"addonVersions": infos}], "1.34") == Offer(versions=("v1.10.0", "v1.2.0"), default="v1.10.0")


@pytest.mark.parametrize(("text", "values"), [(None, {}), ("", {}), ("{}", {}), ('{"a": [1]}', {"a": [1]}), ("a: 1\n", "a: 1\n")])
def test_a_configuration_is_data_where_it_is_json(text: str | None, values: t.Any) -> None:
    assert Addon.from_api({**API, "configurationValues": text}).configuration_values == values


def test_associations_are_compared_without_order() -> None:
    observed = Addon.from_api(API).with_associations([{"serviceAccount": "b", "roleArn": "2"}, {"serviceAccount": "a", "roleArn": "1"}])
    associations = [{"service_account": "a", "role_arn": "1"}, {"service_account": "b", "role_arn": "2"}]
    wanted = Wanted.from_params({"name": "x", "pod_identity_associations": associations})
    assert wanted.fields()["pod_identity_associations"] == observed.fields()["pod_identity_associations"] == associations


@pytest.mark.parametrize(
    ("own", "of_module", "waits"), [(None, True, True), (None, False, False), (True, False, True), (False, True, False)]
)
def test_an_add_ons_own_wait_comes_first(own: bool | None, of_module: bool, waits: bool) -> None:
    assert Wanted.from_params({"name": "x", "wait": own}, wait=of_module).wait == waits
