# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What becomes of a pool that is there when one of its options gets another value, by option and provisioner. Pure.

docs/pool-fields.md is written from this table, and tests/unit/plan/test_pool_fields.py plans a change for each row.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

Word = t.Literal["in place", "rolling", "replace", "new", "refused", "at creation", "no call"]

#: What the words mean, in the order of the documentation.
WORDS: dict[Word, str] = {
    "in place": "what is there is changed; nodes that run go on running.",
    "rolling": "what nodes are launched from is changed, and nodes that differ from it are replaced step by step: by EKS as `update` allows, "
    "by an instance refresh of the Auto Scaling group, or by Karpenter's drift within `disruption.budgets`.",
    "replace": "a node group cannot be changed so. It is refused unless `allow_replacement: true`, which makes another group first and deletes this "
    "one when that is there.",
    "new": "the pool consists of other groups or objects, which are made. Those that it no longer consists of stay until `prune: true`; a warning "
    "names them, but for those that another name left, or that were made before the pool went to Karpenter or came from it.",
    "refused": "the provisioner cannot express it; those that can are named.",
    "at creation": "it holds for groups that are made; of one that is there it is not compared.",
    "no call": "nothing that the pool consists of says it.",
}

#: The tests that show rows, as PATH::NAME: the plan of a change, the refusal, and the calls of a whole run.
PROOFS = {
    "plan": "tests/unit/plan/test_pool_fields.py::test_a_change_is_what_the_table_says",
    "provisioner": "tests/unit/plan/test_pool_fields.py::test_another_provisioner_makes_the_pool_beside_what_there_is",
    "creation": "tests/unit/plan/test_pool_fields.py::test_what_holds_at_creation_changes_nothing_later",
    "refusal": "tests/unit/model/test_pool_fields.py::test_what_is_refused_names_those_that_can",
    "run": "tests/e2e/test_pool_changes.py::test_the_run_makes_exactly_the_calls_of_the_plan",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What becomes of an option with one provisioner. The note says what of it is conditional."""

    word: Word
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PoolField:
    """A row: an option by its dotted path. ``whole_run`` says that a run of the playbook changes it too."""

    option: str
    karpenter: Cell
    managed_node_group: Cell
    auto_scaling_group: Cell
    whole_run: bool = False

    @property
    def cells(self) -> dict[str, Cell]:
        return {
            "karpenter": self.karpenter,
            "managed_node_group": self.managed_node_group,
            "auto_scaling_group": self.auto_scaling_group,
        }

    @property
    def able(self) -> tuple[str, ...]:
        """The provisioners that can express the option."""
        return tuple(name for name, cell in self.cells.items() if cell.word != "refused")

    @property
    def proofs(self) -> tuple[str, ...]:
        """The tests that show the row, by their names in PROOFS."""
        words = {cell.word for cell in self.cells.values()}
        plan = "provisioner" if self.option == "provisioner" else "plan"
        shown = {
            plan: bool(words - {"refused", "at creation"}),
            "creation": "at creation" in words,
            "refusal": "refused" in words,
            "run": self.whole_run,
        }
        return tuple(name for name, is_shown in shown.items() if is_shown)


def _cell(said: str) -> Cell:
    word, _colon, note = said.partition(": ")
    return Cell(word=t.cast(Word, word), note=note)


def _row(option: str, k: str, m: str, a: str, *, whole_run: bool = False) -> PoolField:
    """Cells as ``WORD: NOTE``."""
    return PoolField(option=option, karpenter=_cell(k), managed_node_group=_cell(m), auto_scaling_group=_cell(a), whole_run=whole_run)


_IN_PLACE, _ROLLING, _REFUSED = "in place", "rolling", "refused"
_UNFIT = "rolling: nodes that no longer fit"
_UNFIT_GROUPS = ("replace: where the group has a type that no longer fits", "rolling: where the group has a type that no longer fits")
_ZONES = "new: a group for each zone; a general pool over several zones has other subnets, as with `network.subnets`"
_SCOPE = "in place: the shares of the groups; a general pool has other groups"
_OWN_IMAGE = "rolling: from an image of EKS to one of your own: replace"
_MIXED = "in place: of a group that mixes; from and to one that does not: new"
_EXPANDER = "no call: it stands in the ConfigMap of cluster-autoscaler's expander, which role `eks_autoscaling` keeps"
_AUTOSCALERS = "in place: a tag for cluster-autoscaler"
_RUNNING = "in place: EKS sets them on nodes that run"
_AT_BOOT = "rolling with Bottlerocket, whose nodes share their GPUs as they were told at boot"
_SHARES = (f"in place: the overlays; {_AT_BOOT}", f"in place: tags for cluster-autoscaler; {_AT_BOOT}")
_ACCELERATOR = "the nodes' label for cluster-autoscaler"
_LAUNCHED = "rolling: what nodes launch with; the group's own in place"


def _instances(option: str) -> PoolField:
    return _row(f"instances.{option}", _UNFIT, *_UNFIT_GROUPS)


def _same(option: str, said: str, *, whole_run: bool = False) -> PoolField:
    return _row(option, said, said, said, whole_run=whole_run)


FIELDS: tuple[PoolField, ...] = (
    _same("name", "new"),
    _row("accelerator", "rolling: nodes that no longer fit; taints that are not set stay", "new", "new"),
    _same("provisioner", "new"),
    *map(_instances, ("types", "categories", "families", "sizes", "generations.min", "generations.max")),
    _instances("architectures"),
    *map(_instances, ("hypervisors", "cpus.min", "cpus.max", "cpus.values", "memory_gib.min", "memory_gib.max", "gpu.models")),
    _row("instances.gpu.count", _UNFIT, "new", "new"),
    *map(_instances, ("gpu.memory_gib.min", "gpu.memory_gib.max")),
    _row("capacity.types", _UNFIT, "new", "new"),
    _row("capacity.on_demand_base", _REFUSED, _REFUSED, _MIXED),
    _row("capacity.on_demand_percentage", _REFUSED, _REFUSED, _MIXED),
    _row(
        "capacity.reservations",
        "rolling: nodes in a reservation that is left out",
        "rolling",
        "in place: rolling with a capacity block, which its launch template names",
    ),
    _row("zones", _UNFIT, _ZONES, _ZONES),
    _row("scaling.min", "refused: above 0", _IN_PLACE, _IN_PLACE, whole_run=True),
    _row("scaling.max", _IN_PLACE, _IN_PLACE, _IN_PLACE, whole_run=True),
    _row("scaling.desired", _REFUSED, _IN_PLACE, _IN_PLACE),
    _row("scaling.scope", "new", _SCOPE, _SCOPE),
    _row("limits.gpus", "in place: it stays where it is no longer set", _IN_PLACE, _IN_PLACE),
    _row("limits.cpus", _IN_PLACE, _REFUSED, _REFUSED),
    _row("limits.memory_gib", _IN_PLACE, _REFUSED, _REFUSED),
    _row("priority", _IN_PLACE, _EXPANDER, _EXPANDER, whole_run=True),
    _row("ami.family", _ROLLING, "replace", _ROLLING),
    _same("ami.release", _ROLLING),
    *(_row(f"ami.{name}", _ROLLING, _OWN_IMAGE, _ROLLING) for name in ("id", "name", "owner", "ssm_parameter")),
    _same("disk.size_gib", _ROLLING, whole_run=True),
    *(_same(f"disk.{name}", _ROLLING) for name in ("type", "throughput", "iops", "kms_key", "instance_store")),
    _row("labels", _ROLLING, _RUNNING, _ROLLING, whole_run=True),
    _row("taints", _ROLLING, _RUNNING, _ROLLING, whole_run=True),
    _same("startup_taints", _ROLLING),
    _row(
        "mig.strategy",
        "in place: the overlays",
        f"in place: tags, and {_ACCELERATOR}",
        f"rolling: {_ACCELERATOR}",
    ),
    _row("mig.layout", _ROLLING, _ROLLING, _ROLLING),
    _row("sharing.strategy", _SHARES[0], _SHARES[1], _SHARES[1]),
    _row("sharing.replicas", _SHARES[0], _SHARES[1], _SHARES[1], whole_run=True),
    _row(
        "sharing.backend",
        "no call: `auto` is `device_plugin`, or `bottlerocket` with that family; `gpu_operator` is refused",
        "no call: as with Karpenter; to and from `gpu_operator` in place, the label of nodes that run",
        "no call: as with Karpenter; to and from `gpu_operator` rolling, the nodes' label",
    ),
    _row("sharing.rename", _SHARES[0], f"in place: tags, and {_ACCELERATOR}; {_AT_BOOT}", f"rolling: {_ACCELERATOR}"),
    _same("sharing.fail_requests_greater_than_one", f"no call: the device plugin's configuration has it; {_AT_BOOT}"),
    _row("network.subnets", _UNFIT, "replace", "in place"),
    *(_same(f"network.{name}", _ROLLING) for name in ("security_groups", "efa", "placement_group")),
    _row("iam.node_role", _ROLLING, "replace", "in place: the role in the instance profile, also of the nodes that run"),
    _row("iam.instance_profile", _ROLLING, _REFUSED, _ROLLING),
    _row(
        "iam.policies",
        "in place: of the pool's role; from and to the cluster's role as `iam.node_role`",
        "in place: as with Karpenter",
        "in place: as with Karpenter",
    ),
    _row("update.max_unavailable", _REFUSED, _IN_PLACE, _REFUSED, whole_run=True),
    _row("update.strategy", _REFUSED, _IN_PLACE, _REFUSED, whole_run=True),
    *(_row(f"warm_pool.{name}", _REFUSED, _IN_PLACE, _IN_PLACE) for name in ("min_size", "max_prepared", "state", "reuse_on_scale_in")),
    _row("disruption.consolidation", _IN_PLACE, _REFUSED, _REFUSED, whole_run=True),
    _row("disruption.consolidate_after", _IN_PLACE, _AUTOSCALERS, _AUTOSCALERS, whole_run=True),
    _row("disruption.budgets", _IN_PLACE, _REFUSED, _REFUSED, whole_run=True),
    _row("disruption.expire_after", _ROLLING, _REFUSED, _REFUSED, whole_run=True),
    _row(
        "repair.enabled", "no call: it has to be what Karpenter's feature gate NodeRepair is", _IN_PLACE, "refused: if true", whole_run=True
    ),
    _row("tags", _ROLLING, _LAUNCHED, _LAUNCHED, whole_run=True),
    _same("user_data", _ROLLING),
    _same("adopt", "no call: what somebody else made is changed where an option is set, from then on"),
    _row("overrides.node_pool", "rolling: what is not below `spec.template` in place", _REFUSED, _REFUSED),
    _row("overrides.node_class", _ROLLING, _REFUSED, _REFUSED),
    _row("overrides.launch_template", _REFUSED, _ROLLING, _ROLLING),
    _row("overrides.node_group", _REFUSED, "at creation", _REFUSED),
    _row(
        "overrides.auto_scaling_group",
        _REFUSED,
        _REFUSED,
        "in place: as far as autoscaling:UpdateAutoScalingGroup takes it, the rest at creation",
    ),
)


def option_paths(options: t.Mapping[str, t.Mapping[str, t.Any]], path: str = "") -> t.Iterator[str]:
    """The dotted paths of all options that have a value of their own, in order; a list of dictionaries is one value."""
    for name, option in options.items():
        if option.get("options") and option["type"] == "dict":
            yield from option_paths(option["options"], f"{path}{name}.")
        else:
            yield f"{path}{name}"
