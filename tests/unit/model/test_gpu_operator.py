# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPU Operator's values: what pools need, and what is refused by name."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.gpuops.eks.plugins.filter.gpu_operator_values import gpu_operator_values
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpu_operator import GONE, KEYS
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_operator import (
    has_stock_images,
    is_static,
    operator_pools,
    operator_values,
    pools_faults,
    values_faults,
    version_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.inventory import inventory_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.variables import variables_of

Pool = dict[str, t.Any]

OPERATOR = {"backend": "gpu_operator"}
MIG: Pool = {
    "name": "mig",
    "instances": {"types": ["p4d.24xlarge"]},
    "scaling": {"min": 1, "max": 1},
    "mig": {"strategy": "mixed", "layout": {"1g.5gb": 7}},
    "sharing": OPERATOR,
}


def pool(**more: t.Any) -> Pool:
    return {**MIG, **more}


def paths(values: t.Any, **more: bool) -> list[str]:
    return [fault.path for fault in values_faults(values, "gpu_operator_values", **more)]


# What older guides give to the chart by --set, as values.
GUIDE = {
    "driver": {"enabled": True},
    "mig": {"strategy": "mixed"},
    "devicePlugin": {"enabled": True, "version": "v0.14.0"},
    "migManager": {"enabled": True, "WITH_REBOOT": True, "default": "all-balanced"},
    "toolkit": {"version": "v1.13.1-centos7"},
    "operator": {"defaultRuntime": "containerd"},
    "gfd": {"version": "v0.8.1"},
}


def test_every_mistake_of_an_old_guide_is_named_with_what_does_it_today() -> None:
    faults = {fault.path: fault.allowed for fault in values_faults(GUIDE, "gpu_operator_values")}
    assert set(faults) == {
        f"gpu_operator_values.{name}"
        for name in (
            "driver.enabled",
            "devicePlugin.version",
            "migManager.WITH_REBOOT",
            "migManager.default",
            "toolkit.version",
            "operator.defaultRuntime",
            "gfd.version",
        )
    }
    assert "migManager.env" in faults["gpu_operator_values.migManager.WITH_REBOOT"]
    assert "nvidia.com/mig.config" in faults["gpu_operator_values.migManager.default"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"devicePlugin": {"version": "v0.20.1"}, "gfd": {"version": "v0.20.1"}, "toolkit": {"enabled": False, "version": "v1.20.0"}},
        {"dcgmExporter": {"serviceMonitor": {"enabled": True, "anything": 1}}},
        {"node-feature-discovery": {"worker": {"tolerations": []}}, "extraObjects": [], "nameOverride": "operator"},
        {"operator": {"resources": {"limits": {"memory": "1Gi"}}}},
        {"driver": {"enabled": False}},
    ],
)
def test_what_the_chart_knows_is_taken(values: Pool) -> None:
    assert paths(values) == []


@pytest.mark.parametrize(
    ("values", "path", "says"),
    [
        ({"migmanager": {}}, "gpu_operator_values.migmanager", "migManager"),
        ({"migManager": {"enable": True}}, "gpu_operator_values.migManager.enable", "enabled"),
        ({"dcgmExporter": {"hostpid": True}}, "gpu_operator_values.dcgmExporter.hostpid", "hostPID"),
        ({"zzz": 1}, "gpu_operator_values.zzz", "one of ccManager"),
        ({"clusterPolicy": {"deployCR": False}}, "gpu_operator_values.clusterPolicy.deployCR", "true"),
        ({"gpuCluster": {"deployCR": True}}, "gpu_operator_values.gpuCluster.deployCR", "false"),
        ({"sandboxWorkloads": {"enabled": True}}, "gpu_operator_values.sandboxWorkloads.enabled", "virtual machines"),
    ],
)
def test_what_would_be_ignored_or_stop_the_work_is_refused(values: Pool, path: str, says: str) -> None:
    (fault,) = values_faults(values, "gpu_operator_values")
    assert fault.path == path
    assert says in fault.allowed


def test_keys_of_a_newer_chart_are_taken_where_that_is_wanted_and_known_mistakes_never() -> None:
    assert paths({"newComponent": {"enabled": True}, "driver": {"newKey": 1}}, every_key=False) == []
    assert paths({"migManager": {"WITH_REBOOT": True}}, every_key=False) == ["gpu_operator_values.migManager.WITH_REBOOT"]


def test_a_driver_container_is_for_images_of_ones_own() -> None:
    assert paths({"driver": {"enabled": True}}, stock_images=False) == []
    assert has_stock_images([MIG])
    assert not has_stock_images([pool(ami={"id": "ami-0123456789abcdef0"})])
    assert not has_stock_images([pool(sharing={"backend": "auto"})])


def test_what_is_gone_is_not_among_the_known_keys() -> None:
    for dotted in GONE:
        top, _dot, name = dotted.partition(".")
        known = KEYS[top]
        assert known is not None
        assert name not in known


@pytest.mark.parametrize(
    ("values", "found"),
    [(None, []), ([], []), ("text", []), ({"driver": None}, []), ({"gfd": {"version": 1}}, []), ({1: 2}, ["gpu_operator_values.1"])],
)
def test_values_of_other_types_are_no_error(values: t.Any, found: list[str]) -> None:
    assert [fault.path for fault in values_faults(values, "gpu_operator_values")] == found


def test_pools_of_the_operator() -> None:
    others = [pool(name="b", sharing={"backend": "auto"}), pool(name="c", sharing=None), pool(name="d", accelerator="none")]
    assert operator_pools([MIG, *others]) == [MIG]


@pytest.mark.parametrize(
    ("more", "static"),
    [
        ({}, True),
        ({"provisioner": "auto_scaling_group"}, True),
        ({"provisioner": "karpenter"}, False),
        ({"scaling": {"min": 1, "max": 2}}, False),
        ({"scaling": None}, False),
    ],
)
def test_a_group_of_one_size_is_static(more: Pool, static: bool) -> None:
    assert is_static(pool(**more)) is static


def test_the_operator_has_one_mig_strategy() -> None:
    single = pool(name="b", mig={"strategy": "single", "layout": {"1g.5gb": 7}})
    whole = pool(name="c", mig=None)
    (fault,) = pools_faults([MIG, whole, single], "gpu_nodepools")
    assert fault.path == "gpu_nodepools[2].mig.strategy"
    assert "mixed, as in gpu_nodepools[0]" in fault.allowed
    assert pools_faults([MIG, whole, pool(name="b")], "gpu_nodepools") == []


def test_pools_of_another_backend_keep_the_operator_off_their_nodes() -> None:
    plain = pool(name="b", sharing=None, mig=None)
    off = {**plain, "labels": {"nvidia.com/gpu.deploy.operands": "false"}}
    general = {"name": "c", "accelerator": "none"}
    (fault,) = pools_faults([plain, MIG, general], "gpu_nodepools")
    assert fault.path == "gpu_nodepools[0].labels.nvidia.com/gpu.deploy.operands"
    assert "a node runs one device plugin" in fault.allowed
    assert pools_faults([off, MIG, general], "gpu_nodepools") == []
    assert pools_faults([plain, general], "gpu_nodepools") == []


@pytest.mark.parametrize("pools", [None, "text", [None, 1], [{"sharing": 1, "mig": [], "labels": 3}, {"accelerator": 1}]])
def test_pools_of_other_types_are_no_error(pools: t.Any) -> None:
    assert pools_faults(pools, "gpu_nodepools") == []
    assert version_faults("v26.7.0", pools, "gpu_operator_version") == []


@pytest.mark.parametrize(
    ("version", "kind", "says"),
    [
        ("v26.7.2", "p3.2xlarge", ""),
        ("v26.7.0", "p4d.24xlarge", ""),
        ("v26.7.0", "p3.2xlarge", "2842"),
        ("26.7.0", "p3dn.24xlarge", "2842"),
        ("v25.10.1", "p4d.24xlarge", "1900"),
        (None, "p4d.24xlarge", ""),
    ],
)
def test_versions_that_do_not_work_on_these_pools_are_refused(version: str | None, kind: str, says: str) -> None:
    faults = version_faults(version, [pool(instances={"types": [kind]})], "gpu_operator_version")
    assert [says in fault.allowed for fault in faults] == ([True] if says else [])


def values(*pools: Pool, over: Pool | None = None, tolerations: t.Sequence[t.Mapping[str, str]] = ()) -> Pool:
    return operator_values(pools, tolerations, over or {})


def test_values_are_those_for_ekss_images() -> None:
    found = values(pool(mig=None))
    assert found["driver"] == found["toolkit"] == {"enabled": False}
    assert found["mig"] == {"strategy": "single"}
    assert found["migManager"] == {"enabled": False}
    assert found["dcgmExporter"] == {"serviceMonitor": {"enabled": False}}
    assert set(found) <= set(KEYS)
    assert values_faults(found, "values") == []


def test_a_pool_with_mig_has_its_layout_by_the_name_that_its_nodes_are_labelled_with() -> None:
    manager = values(MIG, pool(name="whole", mig=None))["migManager"]
    parted = yaml.safe_load(manager["config"]["data"]["config.yaml"])
    assert parted["version"] == "v1"
    assert parted["mig-configs"] == {
        "all-disabled": [{"devices": "all", "mig-enabled": False}],
        "mig": [{"devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 7}}],
    }
    assert manager["config"]["default"] in parted["mig-configs"]
    assert manager["config"]["create"] is True
    assert values(MIG)["mig"] == {"strategy": "mixed"}


def variables(found: Pool, block: str) -> dict[str, str]:
    return {one["name"]: one["value"] for one in found[block]["env"]}


def test_nodes_are_rebooted_where_all_of_them_belong_to_groups_of_one_size() -> None:
    grows = {"min": 0, "max": 3}
    assert variables(values(MIG), "migManager")["WITH_REBOOT"] == "true"
    assert variables(values(MIG, pool(name="b", mig=None, scaling=grows)), "migManager")["WITH_REBOOT"] == "true"
    assert "WITH_REBOOT" not in variables(values(MIG, pool(name="b", scaling=grows)), "migManager")


@pytest.mark.parametrize("block", ["migManager", "devicePlugin", "gfd"])
def test_what_reads_a_configuration_starts_anew_when_that_changes(block: str) -> None:
    """The operator's DaemonSets do not follow what is in ConfigMaps."""
    shared = {**OPERATOR, "strategy": "time_slicing", "replicas": 2}
    before, same = variables(values(MIG), block), variables(values(dict(MIG)), block)
    after = variables(values(pool(mig={"layout": {"3g.20gb": 2}}, sharing=shared)), block)
    assert before == same
    assert before["GPUOPS_CONFIGURATION"] != after["GPUOPS_CONFIGURATION"]


def test_another_layout_starts_mig_manager_alone_anew() -> None:
    before, after = values(MIG), values(pool(mig={"strategy": "mixed", "layout": {"3g.20gb": 2}}))
    assert variables(before, "migManager") != variables(after, "migManager")
    assert variables(before, "devicePlugin") == variables(after, "devicePlugin")


TEN: Pool = {**OPERATOR, "strategy": "time_slicing", "replicas": 10}


def test_the_plugin_has_one_configuration_by_the_names_of_the_pools_too() -> None:
    config = values(pool(name="a", mig=None, sharing=TEN), pool(name="b", mig=None, sharing=TEN))["devicePlugin"]["config"]
    assert (config["create"], config["default"]) == (True, "default")
    assert set(config["data"]) == {"default", "a", "b"}
    assert len(set(config["data"].values())) == 1
    assert yaml.safe_load(config["data"]["default"])["sharing"]["timeSlicing"]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 10}]
    assert yaml.safe_load(values(pool(mig=None))["devicePlugin"]["config"]["data"]["default"]) == {"version": "v1"}


@pytest.mark.parametrize(
    ("second", "alike"),
    [
        ({"sharing": TEN}, 1),
        ({"sharing": {**TEN, "replicas": "10"}}, 1),
        ({"sharing": {**TEN, "replicas": 4}}, 0),
        ({"sharing": OPERATOR}, 0),
        ({"sharing": TEN, "mig": {"strategy": "mixed", "layout": {"1g.5gb": 7}}}, 0),
        ({"sharing": TEN, "accelerator": "none"}, 1),
    ],
)
def test_pools_of_the_operator_share_alike(second: Pool, alike: int) -> None:
    faults = pools_faults([pool(name="a", mig=None, sharing=TEN), pool(**{"name": "b", "mig": None, **second})], "gpu_nodepools")
    assert [fault.path for fault in faults] == ([] if alike else ["gpu_nodepools[1].sharing"])


def test_what_differs_without_sharing_is_no_fault() -> None:
    assert pools_faults([MIG, pool(name="whole", mig=None), pool(name="b", mig={"layout": {"3g.20gb": 2}})], "gpu_nodepools") == []


def test_operands_and_feature_discovery_tolerate_the_pools_taints() -> None:
    team = {"key": "team", "operator": "Exists", "effect": "NoSchedule"}
    found = values(MIG, tolerations=[team])
    both = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, team]
    assert found["daemonsets"]["tolerations"] == found["node-feature-discovery"]["worker"]["tolerations"] == both


def test_given_values_are_put_over_the_computed_ones() -> None:
    over = {"dcgmExporter": {"enabled": False}, "migManager": {"env": []}, "devicePlugin": {"config": {"data": {"more": "version: v1"}}}}
    found = values(MIG, over=over)
    assert found["dcgmExporter"] == {"enabled": False, "serviceMonitor": {"enabled": False}}
    assert found["migManager"]["env"] == []
    assert found["migManager"]["enabled"] is True
    assert set(found["devicePlugin"]["config"]["data"]) == {"default", "mig", "more"}


def test_pools_of_others_have_no_part_in_it() -> None:
    other = {"name": "other", "mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}
    assert values(MIG, other) == values(MIG)
    assert values()["devicePlugin"]["config"]["data"] == {"default": 'version: "v1"\n'}


def test_filter_refuses_with_every_fault_and_takes_tolerations_from_the_operators_pools() -> None:
    tainted = pool(taints=[{"key": "team", "value": "a", "effect": "NoSchedule"}])
    other = {**pool(name="b", sharing=None), "labels": {"nvidia.com/gpu.deploy.operands": "false"}}
    found = gpu_operator_values([tainted, {**other, "taints": [{"key": "theirs", "effect": "NoSchedule"}]}])
    assert [one["key"] for one in found["daemonsets"]["tolerations"]] == ["nvidia.com/gpu", "team"]
    with pytest.raises(
        AnsibleFilterError, match=r"2 values cannot be accepted(.|\n)*values.migManager.WITH_REBOOT(.|\n)*pools\[1\].labels"
    ):
        gpu_operator_values([MIG, pool(name="b", sharing=None)], {"migManager": {"WITH_REBOOT": True}})
    assert gpu_operator_values([MIG], {"next": {}}, every_key=False)["next"] == {}


def inventory(**changes: t.Any) -> list[str]:
    """The paths of the faults of a play of the role with its defaults."""
    roles = ["gpu_operator"]
    defaults = {name: option["default"] for name, option in variables_of(roles).items() if "default" in option}
    identity = {"eks_cluster_name": "demo", "eks_cluster_region": "us-west-2", "eks_cluster_account_id": "123456789012"}
    group = pool(provisioner="managed_node_group", zones=["us-west-2a"])
    return [fault.path for fault in inventory_faults({**defaults, **identity, "gpu_nodepools": [group], **changes}, roles)]


def test_an_inventory_is_held_to_all_of_it_before_any_client_exists() -> None:
    assert inventory() == []
    wrong = {"driver": {"enabled": True}, "migManager": {"default": "all-balanced"}, "sommething": {}}
    found = inventory(gpu_operator_values=wrong, gpu_operator_version="v25.10.0", gpu_operator_wedge_after=-1)
    assert found == [
        "gpu_operator_values.migManager.default",
        "gpu_operator_values.sommething",
        "gpu_operator_values.driver.enabled",
        "gpu_operator_version",
        "gpu_operator_wedge_after",
    ]
    newer: Pool = {"sommething": {}}
    assert inventory(gpu_operator_values=newer, gpu_operator_values_checked=False) == []
    assert inventory(gpu_operator_values=wrong, gpu_operator_enabled=False) == []
    assert inventory(gpu_operator_values=["wrong"]) == ["gpu_operator_values"]
