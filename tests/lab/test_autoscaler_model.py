# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of cluster-autoscaler decides by the rules of the real one: a contract test for each, on the pure part."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from lab.controllers.autoscaler.decide import decide
from lab.controllers.autoscaler.model import (
    GPU,
    GPU_LABEL,
    TO_BE_DELETED,
    Budget,
    Decision,
    Group,
    InstanceType,
    ManagedGroup,
    Memory,
    Node,
    Options,
    Pod,
    Requirement,
    Resize,
    Taint,
    Termination,
    World,
)
from lab.controllers.autoscaler.scaledown import utilisation
from lab.controllers.autoscaler.templates import choose, from_group

TAG = "k8s.io/cluster-autoscaler/node-template/"
SHARED = "nvidia.com/gpu.shared"
GIB = 2**30 * 1000
NOW = 100_000.0
G4DN = InstanceType(name="g4dn.xlarge", cpus=4, memory_mib=16384, gpus=1)
G5 = InstanceType(name="g5.xlarge", cpus=4, memory_mib=16384, gpus=1)


def pending(count: int, *, cpu: int = 100, resource: str = GPU, **changes: t.Any) -> tuple[Pod, ...]:
    """Pods that ask for one share and some CPU each."""
    return tuple(
        Pod(
            uid=f"pending-{index}",
            name=f"pending-{index}",
            owner="rs",
            owner_kind="ReplicaSet",
            requests={"cpu": cpu, resource: 1000},
            unschedulable=True,
            **changes,
        )
        for index in range(count)
    )


def running(count: int, node: str, *, resource: str = GPU, cpu: int = 100) -> tuple[Pod, ...]:
    return tuple(
        dataclasses.replace(pod, uid=f"{node}-{pod.uid}", node=node, unschedulable=False)
        for pod in pending(count, resource=resource, cpu=cpu)
    )


def group(name: str = "g4dn", *, shares: int | None = 10, **changes: t.Any) -> Group:
    """A group scaled to zero whose tags promise so many GPUs."""
    tags = {} if shares is None else {f"{TAG}resources/{GPU}": str(shares)}
    settings: dict[str, t.Any] = {"maximum": 5, "zones": ("us-west-2a",), "instance_type": "g4dn.xlarge", "tags": tags}
    return Group(name=name, **(settings | changes))


def node(name: str = "n1", *, gpus: int = 10, resource: str = GPU, **changes: t.Any) -> Node:
    """A node that has been Ready for long."""
    amounts = {"cpu": 3900, "memory": 15 * GIB, "pods": 29_000} | ({resource: gpus * 1000} if gpus else {})
    return Node(name=name, **({"instance_id": f"i-{name}", "capacity": amounts, "allocatable": amounts} | changes))


def world(*groups: Group, now: float = NOW, nodes: t.Sequence[Node] = (), pods: t.Sequence[Pod] = (), **changes: t.Any) -> World:
    types = {each.name: each for each in (G4DN, G5)}
    return World(now=now, groups=groups, nodes=tuple(nodes), pods=tuple(pods), types=types, **changes)


def with_node(of: Group, *names: str) -> Group:
    instances = tuple(f"i-{name}" for name in names)
    return dataclasses.replace(of, instances=instances, desired=max(of.desired, len(instances)))


def ordered(decision: Decision) -> dict[str, int]:
    return {resize.group: resize.size for resize in decision.resizes}


# Rule 1


def test_rule_1_ten_shares_are_one_node_when_cpu_and_memory_fit_as_well() -> None:
    """One SetDesiredCapacity for ten pods on a tag of ten; the template is the raw machine less kube-proxy's 0.1 CPU, with 110 pods."""
    assert ordered(decide(world(group(), pods=pending(10)), Options(), Memory())) == {"g4dn": 1}
    template = from_group(group(), G4DN)
    assert template is not None
    assert template.allocatable == {"cpu": 4000, "memory": 16 * GIB, "pods": 110_000, GPU: 10_000}
    assert sum(pod.requests["cpu"] for pod in template.pods) == 100
    assert ordered(decide(world(group(), pods=pending(10, cpu=390)), Options(), Memory())) == {"g4dn": 1}
    assert ordered(decide(world(group(), pods=pending(10, cpu=400)), Options(), Memory())) == {"g4dn": 2}


def test_rule_1_without_the_tag_each_pod_is_a_node() -> None:
    assert ordered(decide(world(group(shares=None, maximum=20), pods=pending(10)), Options(), Memory())) == {"g4dn": 10}


def test_rule_1_pods_that_fit_the_template_and_not_the_node_order_node_after_node() -> None:
    """390 m each fit the raw machine ten times, the real node (3900 m less what runs on every node) only nine times."""
    memory, bought = Memory(), []
    pods = pending(10, cpu=390)
    daemon = Pod(uid="ds", name="ds", node="n1", owner="ds", owner_kind="DaemonSet", requests={"cpu": 300})
    first = decide(world(group(), pods=pods), Options(), memory)
    bought.append(ordered(first))
    placed = tuple(dataclasses.replace(pod, node="n1", unschedulable=False) for pod in pods[:9])
    seen = world(with_node(group(), "n1"), now=NOW + 120, nodes=[node(created=NOW + 60)], pods=(*placed, pods[9], daemon))
    bought.append(ordered(decide(seen, Options(), first.memory)))
    assert bought == [{"g4dn": 1}, {"g4dn": 2}]


# Rule 2


@pytest.mark.parametrize(
    ("name", "seen", "expected"),
    [
        ("(a) a node that has been Ready for a minute", [node(gpus=4, ready_since=NOW - 61)], 4),
        ("(c) not so long: instance type and tags", [node(gpus=4, ready_since=NOW - 59)], 10),
        ("(c) not schedulable", [node(gpus=4, unschedulable=True)], 10),
        ("(c) to be deleted", [node(gpus=4, taints=(Taint(TO_BE_DELETED),))], 10),
        ("the second node is the example", [node("n1", gpus=4, ready=False), node("n2", gpus=5)], 5),
    ],
)
def test_rule_2_where_the_estimate_comes_from(name: str, seen: list[Node], expected: int) -> None:
    of = with_node(group(), *(each.name for each in seen))
    assert choose(world(of, nodes=seen), Options(), Memory()).by_group["g4dn"].allocatable[GPU] == expected * 1000, name


def test_rule_2_d_an_unready_node_is_the_example_of_a_group_of_an_unknown_type() -> None:
    of = with_node(group(instance_type="g7.new"), "n1")
    found = choose(world(of, nodes=[node(gpus=4, ready=False)]), Options(), Memory())
    assert found.by_group["g4dn"].allocatable[GPU] == 4000
    assert "unknown EC2 instance type" in found.notes[0]


def test_rule_2_b_the_last_node_is_remembered_for_ten_years_until_a_restart() -> None:
    """After a change of replicas from 4 to 10, with tag and config changed: a group scaled to zero is still estimated with 4."""
    seen = world(with_node(group(shares=4), "n1"), nodes=[node(gpus=4)])
    memory = decide(seen, Options(), Memory()).memory
    changed = world(group(shares=10), now=NOW + 9 * 365 * 24 * 3600.0, pods=pending(10))
    assert ordered(decide(changed, Options(), memory)) == {"g4dn": 3}
    assert ordered(decide(changed, Options(), Memory())) == {"g4dn": 1}  # restarted
    assert ordered(decide(changed, Options(node_info_cache_expire_time=3600), memory)) == {"g4dn": 1}


def test_rule_2_a_new_node_replaces_what_is_remembered_after_a_minute() -> None:
    memory = decide(world(with_node(group(), "n1"), nodes=[node(gpus=4)]), Options(), Memory()).memory
    for age, shares in ((59, 4), (61, 10)):
        seen = world(with_node(group(), "n2"), nodes=[node("n2", gpus=10, ready_since=NOW - age)])
        assert choose(seen, Options(), memory).by_group["g4dn"].allocatable[GPU] == shares * 1000


def test_rule_2_missing_resources_are_filled_from_the_tags_and_lower_numbers_stay() -> None:
    of = with_node(group(tags={f"{TAG}resources/{GPU}": "10", f"{TAG}resources/vpc.amazonaws.com/efa": "1"}), "n1")
    template = choose(world(of, nodes=[node(gpus=4)]), Options(), Memory()).by_group["g4dn"]
    assert (template.allocatable[GPU], template.allocatable["vpc.amazonaws.com/efa"]) == (4000, 1000)
    without = choose(world(of, nodes=[node(gpus=0)]), Options(), Memory()).by_group["g4dn"]
    assert without.allocatable[GPU] == 10_000


def test_rule_2_a_node_with_fewer_gpus_than_its_tag_counts_as_ready() -> None:
    """It is no longer expected to offer ten, so what does not fit on its four buys more."""
    young = node(gpus=4, labels={GPU_LABEL: "t4"}, created=NOW - 30, ready_since=NOW - 30)
    decision = decide(world(with_node(group(), "n1"), nodes=[young], pods=pending(10)), Options(), Memory())
    assert ordered(decision) == {"g4dn": 2}


# Rule 3


def gpu_less(**changes: t.Any) -> Node:
    """Ready, and its device plugin has not spoken yet."""
    return node(gpus=0, created=NOW - 60, ready_since=NOW - 30, **changes)


def test_rule_3_with_the_label_a_node_without_gpus_is_upcoming_and_no_second_is_ordered() -> None:
    of = with_node(group(), "n1")
    labelled = gpu_less(labels={GPU_LABEL: "anything"})
    assert ordered(decide(world(of, nodes=[labelled], pods=pending(10)), Options(), Memory())) == {}


def test_rule_3_the_label_holds_for_max_node_startup_time() -> None:
    of = with_node(group(), "n1")
    labelled = gpu_less(labels={GPU_LABEL: ""})
    for age, expected in ((899.0, {}), (901.0, {"g4dn": 2})):
        seen = dataclasses.replace(labelled, created=NOW - age)
        assert ordered(decide(world(of, nodes=[seen], pods=pending(10)), Options(), Memory())) == expected


def test_rule_3_without_the_label_each_such_node_orders_one_more_up_to_the_maximum() -> None:
    of, memory, sizes = group(maximum=3), Memory(), []
    seen: list[Node] = []
    for number in range(1, 5):
        decision = decide(world(of, nodes=seen, pods=pending(10), now=NOW + number), Options(), memory)
        memory = decision.memory
        sizes.append(ordered(decision).get("g4dn"))
        of = with_node(of, *(f"n{index}" for index in range(1, min(number, 3) + 1)))
        seen = [gpu_less(name=f"n{index}") for index in range(1, min(number, 3) + 1)]
    assert sizes == [1, 2, 3, None]


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "habana.ai/gaudi", "gpu.intel.com/xe", "amd.com/gpu", "microsoft.com/directx"])
def test_rule_3_one_of_the_known_resources_makes_the_node_ready(resource: str) -> None:
    seen = node(gpus=1, resource=resource, labels={GPU_LABEL: "x"})
    assert choose(world(with_node(group(), "n1"), nodes=[seen]), Options(), Memory()).cache
    never = node(gpus=1, resource=SHARED, labels={GPU_LABEL: "x"})
    assert decide(world(with_node(group(), "n1"), nodes=[never]), Options(), Memory()).memory.templates == {}


# Rule 4


def test_rule_4_a_labelled_node_of_a_renamed_resource_is_removed_though_it_is_busy() -> None:
    """Its utilisation is 0, and there is another node for its pods; without the label CPU and memory are judged."""
    of = with_node(group(), "n1", "n2")
    pods = running(8, "n1", resource=SHARED, cpu=300)
    label = {GPU_LABEL: "t4"}
    empty = node("n2", resource=SHARED, annotations={"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"})
    labelled = node("n1", resource=SHARED, labels=label)
    assert utilisation(labelled, pods, Options()) == 0
    assert utilisation(node("n1", resource=SHARED), pods, Options()) == pytest.approx(2400 / 3900)
    removed = {}
    for name, first in (("labelled", labelled), ("plain", node("n1", resource=SHARED))):
        memory = decide(world(of, nodes=[first, empty], pods=pods), Options(), Memory()).memory
        later = decide(world(of, nodes=[first, empty], pods=pods, now=NOW + 1201), Options(), memory)
        removed[name] = [removal.node for removal in later.removals]
    assert removed == {"labelled": ["n1"], "plain": []}


def test_rule_4_more_than_three_such_nodes_stop_all_growth() -> None:
    names = [f"n{index}" for index in range(4)]
    seen = [node(name, resource=SHARED, labels={GPU_LABEL: "t4"}) for name in names]
    decision = decide(world(with_node(group(), *names), nodes=seen, pods=pending(10, resource=SHARED)), Options(), Memory())
    assert ordered(decision) == {}
    assert "Cluster is not ready for autoscaling" in decision.notes


def test_rule_4_the_template_promises_the_instance_types_gpus_unless_the_tag_says_none() -> None:
    """Pods that ask for nvidia.com/gpu start nodes that will never offer it; 0 and the new name together prevent that."""
    renamed = group(tags={f"{TAG}resources/{SHARED}": "10"})
    assert ordered(decide(world(renamed, pods=pending(1)), Options(), Memory())) == {"g4dn": 1}
    both = group(tags={f"{TAG}resources/{SHARED}": "10", f"{TAG}resources/{GPU}": "0"})
    assert ordered(decide(world(both, pods=pending(1)), Options(), Memory())) == {}
    assert ordered(decide(world(both, pods=pending(10, resource=SHARED)), Options(), Memory())) == {"g4dn": 1}


# Rule 5


def test_rule_5_utilisation_of_a_gpu_node_is_that_of_its_gpus_alone() -> None:
    busy_cpu = running(4, "n1", cpu=900)
    assert utilisation(node(), busy_cpu, Options()) == 0.4


@pytest.mark.parametrize(
    ("used", "flag", "tag", "goes"),
    [
        (4, 0.5, None, True),
        (5, 0.5, None, True),  # at the threshold
        (6, 0.5, None, False),
        (4, 0.3, None, False),
        (4, 0.5, "0.3", False),
        (6, 0.5, "0.7", True),
        (4, 0.5, "much", True),  # not a number: the flag holds
    ],
)
def test_rule_5_the_threshold_is_a_flag_or_a_tag_of_the_group(used: int, flag: float, tag: str | None, goes: bool) -> None:
    of = with_node(group(), "n1", "n2")
    if tag is not None:
        of = dataclasses.replace(of, tags={**of.tags, f"{TAG}autoscaling-options/scaledowngpuutilizationthreshold": tag})
    other = node("n2", annotations={"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"})
    options = Options(scale_down_gpu_utilization_threshold=flag)
    seen = world(of, nodes=[node("n1"), other], pods=running(used, "n1"))
    memory = decide(seen, options, Memory()).memory
    later = decide(dataclasses.replace(seen, now=NOW + 601), options, memory)
    assert [removal.node for removal in later.removals] == (["n1"] if goes else [])


# Rule 6


@pytest.mark.parametrize("quantity", ["ten", "1 0", "", "10Q", "0x10"])
def test_rule_6_an_unparsable_quantity_is_dropped_without_a_message(quantity: str) -> None:
    of = group(tags={f"{TAG}resources/{GPU}": quantity})
    template = from_group(of, G4DN)
    assert template is not None
    assert template.allocatable[GPU] == 1000
    assert not any(quantity in note for note in choose(world(of), Options(), Memory()).notes if quantity)


@pytest.mark.parametrize(
    ("quantity", "thousandths"), [("10", 10_000), ("1e1", 10_000), ("10000m", 10_000), ("0.01k", 10_000), ("+4", 4000)]
)
def test_rule_6_quantities_are_those_of_kubernetes(quantity: str, thousandths: int) -> None:
    template = from_group(group(tags={f"{TAG}resources/{GPU}": quantity}), G4DN)
    assert template is not None
    assert template.allocatable[GPU] == thousandths


def test_rule_6_tag_keys_with_eks_become_labels_and_the_managed_groups_resources_win() -> None:
    tags = {"eks:nodegroup-name": "gpu", "eks:cluster-name": "lab", f"{TAG}resources/{GPU}": "4", f"{TAG}label/team": "tag"}
    managed = ManagedGroup(
        labels={"team": "group"}, taints=(Taint("nvidia.com/gpu", "true"),), tags={f"{TAG}resources/{GPU}": "10", f"{TAG}resources/x": "?"}
    )
    template = from_group(group(tags=tags, managed=managed), G4DN)
    assert template is not None
    assert template.labels["nodegroup-name"] == "gpu"
    assert template.labels["team"] == "group"
    assert template.taints == (Taint("nvidia.com/gpu", "true"),)
    assert (template.allocatable[GPU], "x" in template.allocatable) == (10_000, False)
    plain = from_group(group(tags={f"{TAG}resources/{GPU}": "4"}, managed=managed), G4DN)
    assert plain is not None
    assert plain.allocatable[GPU] == 4000


# The rest of what it decides


def test_the_expander_takes_the_highest_priority_and_then_the_least_waste() -> None:
    small, large = group("small"), group("large", instance_type="g5.8xlarge")
    types = {"g4dn.xlarge": G4DN, "g5.8xlarge": InstanceType(name="g5.8xlarge", cpus=32, memory_mib=131072, gpus=1)}
    seen = dataclasses.replace(world(small, large, pods=pending(10)), types=types)
    chain = Options(expander=("priority", "least-waste"))
    for priorities, expected in (
        ("10: [large]\n5: [small]", "large"),
        ("10: ['^small$', large]", "small"),
        ("10: [other]", "small"),
        ("- no map", "small"),
        (None, "small"),
    ):
        assert list(ordered(decide(dataclasses.replace(seen, priorities=priorities), chain, Memory()))) == [expected], priorities
    assert list(ordered(decide(dataclasses.replace(seen, priorities="10: [large]"), Options(), Memory()))) == ["small"]


def test_a_group_that_is_not_in_the_priorities_is_not_used_while_another_is() -> None:
    seen = world(group("listed"), group("other"), pods=pending(10), priorities="1: [listed]")
    decision = decide(seen, Options(expander=("priority",)), Memory())
    assert ordered(decision) == {"listed": 1}
    assert any("node group other not found" in note for note in decision.notes)


def test_similar_groups_are_balanced_when_asked() -> None:
    zones = [group(f"gpu-{zone}", zones=(f"us-west-2{zone}",)) for zone in "abc"]
    seen = world(*zones, pods=pending(25))
    assert ordered(decide(seen, Options(), Memory())) == {"gpu-a": 3}
    assert ordered(decide(seen, Options(balance_similar_node_groups=True), Memory())) == {"gpu-a": 1, "gpu-b": 1, "gpu-c": 1}
    other = dataclasses.replace(zones[1], tags={**zones[1].tags, f"{TAG}label/pool": "other"})
    unlike = world(zones[0], other, zones[2], pods=pending(25))
    assert ordered(decide(unlike, Options(balance_similar_node_groups=True), Memory())) == {"gpu-a": 2, "gpu-c": 1}


def test_a_group_that_cannot_launch_is_taken_back_and_the_next_one_grows() -> None:
    """Placeholder of a failed launch: size back to what there is, five minutes of backoff, doubled when it happens again."""
    first, second = group("first"), group("second")
    seen = world(first, second, pods=pending(10), priorities="2: [first]\n1: [second]")
    options = Options(expander=("priority",))
    begun = decide(seen, options, Memory())
    assert begun.resizes == (Resize("first", 1),)
    failed = dataclasses.replace(seen, now=NOW + 10, groups=(dataclasses.replace(first, desired=1, refused=True), second))
    next_one = decide(failed, options, begun.memory)
    assert next_one.resizes == (Resize("first", 0), Resize("second", 1))
    assert next_one.memory.backoffs["first"].until == NOW + 310
    waiting = dataclasses.replace(next_one.memory, requests={})
    for later, expected in ((309.0, {"second": 1}), (311.0, {"first": 1})):
        assert ordered(decide(dataclasses.replace(seen, now=NOW + later), options, waiting)) == expected
    again = decide(dataclasses.replace(failed, now=NOW + 400), options, waiting)
    assert again.memory.backoffs["first"].duration == 600


def test_upcoming_nodes_take_the_pods_until_the_provision_time_is_over() -> None:
    of = dataclasses.replace(group(), desired=1, instances=("i-new",))
    begun = decide(world(group(), pods=pending(10)), Options(), Memory())
    coming = decide(world(of, pods=pending(10), now=NOW + 10), Options(), begun.memory)
    assert (coming.resizes, coming.terminations) == ((), ())
    timed_out = decide(world(of, pods=pending(10), now=NOW + 905), Options(), coming.memory)
    assert timed_out.memory.backoffs["g4dn"].duration == 300
    late = decide(world(of, pods=pending(10), now=NOW + 920), Options(), timed_out.memory)
    assert late.terminations == (Termination("i-new", "g4dn"),)
    assert late.resizes == ()


def test_an_empty_node_goes_after_its_time_and_not_within_the_delay_after_a_scale_up() -> None:
    of = with_node(group(), "n1")
    seen = world(of, nodes=[node()])
    memory = decide(seen, Options(), Memory()).memory
    for after, last_scale_up, goes in ((600, NOW - 9999, False), (601, NOW - 9999, True), (601, NOW + 2, False), (603, NOW + 2, True)):
        known = dataclasses.replace(memory, last_scale_up=last_scale_up)
        decision = decide(dataclasses.replace(seen, now=NOW + after), Options(), known)
        assert [removal.node for removal in decision.removals] == (["n1"] if goes else []), (after, last_scale_up)


def test_the_unneeded_time_is_a_tag_of_the_group_and_the_minimum_holds() -> None:
    tags = {**group().tags, f"{TAG}autoscaling-options/scaledownunneededtime": "1m"}
    of = with_node(group(tags=tags), "n1", "n2")
    seen = world(of, nodes=[node("n1"), node("n2")])
    memory = decide(seen, Options(), Memory()).memory
    later = dataclasses.replace(seen, now=NOW + 61)
    assert len(decide(later, Options(), memory).removals) == 2
    limited = dataclasses.replace(later, groups=(dataclasses.replace(of, minimum=1),))
    assert len(decide(limited, Options(), memory).removals) == 1


def blocked_by(**changes: t.Any) -> Pod:
    return dataclasses.replace(running(1, "n1")[0], **changes)


@pytest.mark.parametrize(
    ("pod", "goes"),
    [
        (blocked_by(), True),
        (blocked_by(owner="", owner_kind=""), False),
        (blocked_by(owner="", owner_kind="", safe_to_evict=True), True),
        (blocked_by(safe_to_evict=False), False),
        (blocked_by(local_storage=True), False),
        (blocked_by(owner_kind="PodGroup"), False),
        (blocked_by(namespace="kube-system", created=NOW), False),
        (blocked_by(labels={"app": "guarded"}), False),
        (blocked_by(requests={"cpu": 99_000}), False),
    ],
)
def test_pods_that_must_not_or_cannot_move_keep_their_node(pod: Pod, goes: bool) -> None:
    of = with_node(group(), "n1", "n2")
    stays = node("n2", annotations={"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"})
    budget = Budget(namespace="default", selector=(Requirement("app", "In", ("guarded",)),), allowed=0)
    seen = world(of, nodes=[node("n1"), stays], pods=[pod], budgets=(budget,))
    memory = decide(seen, Options(), Memory()).memory
    removals = decide(dataclasses.replace(seen, now=NOW + 601), Options(), memory).removals
    assert [removal.node for removal in removals] == (["n1"] if goes else [])
    assert [p.uid for removal in removals for p in removal.pods] == ([pod.uid] if goes else [])


def test_pods_that_have_only_begun_to_be_made_wait_for_their_siblings() -> None:
    assert decide(world(group(), pods=pending(3, fresh=True)), Options(), Memory()).resizes == ()
    mixed = (*pending(3, fresh=True), dataclasses.replace(pending(1)[0], uid="old"))
    assert ordered(decide(world(group(), pods=mixed), Options(), Memory())) == {"g4dn": 1}


def test_a_taint_that_pods_do_not_tolerate_and_the_maximum_stop_growth() -> None:
    tainted = group(tags={**group().tags, f"{TAG}taint/nvidia.com/gpu": "true:NoSchedule"})
    assert ordered(decide(world(tainted, pods=pending(10)), Options(), Memory())) == {}
    ignored = group(tags={**group().tags, f"{TAG}taint/nvidia.com/gpu": "true"})  # no effect: no taint
    assert ordered(decide(world(ignored, pods=pending(10)), Options(), Memory())) == {"g4dn": 1}
    assert ordered(decide(world(group(maximum=2), pods=pending(30)), Options(), Memory())) == {"g4dn": 2}
    assert ordered(decide(world(group(maximum=0), pods=pending(30)), Options(), Memory())) == {}


def test_enforced_minimum() -> None:
    of = group(minimum=2)
    assert ordered(decide(world(of), Options(), Memory())) == {}
    assert ordered(decide(world(of), Options(enforce_node_group_min_size=True), Memory())) == {"g4dn": 2}
