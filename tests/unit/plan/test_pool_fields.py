# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each option of a pool that is there gets another value: what is planned is what the table of fields says, and is done once."""

from __future__ import annotations

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_faults import pool_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_fields import FIELDS, Word

from tests.unit.pool_changes import Params, base, options, without
from tests.unit.pool_states import PROVISIONERS, Planned, Shown, made, pool_of

ROWS = [(field.option, name, cell.word) for field in FIELDS for name, cell in field.cells.items() if cell.word != "refused"]
CREATION = [(option, provisioner) for option, provisioner, word in ROWS if word == "at creation"]

IN_PLACE = {
    "eks:UpdateNodegroupConfig",
    "eks:TagResource",
    "eks:UntagResource",
    "autoscaling:UpdateAutoScalingGroup",
    "autoscaling:CreateOrUpdateTags",
    "autoscaling:DeleteTags",
    "autoscaling:PutWarmPool",
    "iam:AddRoleToInstanceProfile",
    "iam:AttachRolePolicy",
    "iam:DetachRolePolicy",
    "iam:RemoveRoleFromInstanceProfile",
}
# Options that say which groups or nodes a pool consists of: without one of them, its default is what is wanted.
WHOLE = (
    "name", "provisioner", "accelerator", "instances.", "capacity.", "zones", "scaling.scope", "limits.gpus", "ami.owner", "mig.", "sharing.",
    "network.subnets", "iam.",
)  # fmt: skip
# What a changed pool has other than a new one: any value of the label serves, so that types that match later change no node by it; what was
# sent at creation and is not set stays; the mark of a pool that goes is for its own removal.
KEPT: dict[str, dict[str, tuple[str, ...]]] = {
    "karpenter": {"accelerator": ("/spec/template/spec/expireAfter", "/spec/template/spec/taints")},
    "auto_scaling_group": {"instances.": ("k8s.amazonaws.com/accelerator",), "name": ("/roles/gpu",)},
    "managed_node_group": {},
}
# What has nodes replaced, and what comes before it.
ROLLS = {"eks:UpdateNodegroupVersion", "autoscaling:StartInstanceRefresh"}
FROM = {"ec2:CreateLaunchTemplateVersion"}
OBJECTS = {"nodepools.karpenter.sh", "ec2nodeclasses.karpenter.k8s.aws", "nodeoverlays.karpenter.sh"}


def drifts(resource: str, path: str) -> bool:
    """Whether Karpenter replaces nodes for it.

    Source: karpenter v1.14 pkg/apis/v1/nodepool.go (NodePool.Hash: spec.template) and pkg/controllers/nodeclaim/disruption/drift.go
    (requirements); karpenter-provider-aws v1.14 pkg/apis/v1/ec2nodeclass.go (EC2NodeClass.Hash: spec) and pkg/cloudprovider/drift.go (images,
    subnets, security groups, reservations, placement group). Overlays: none.
    """
    return path.startswith({"nodepools.karpenter.sh": "spec.template.", "ec2nodeclasses.karpenter.k8s.aws": "spec."}.get(resource, "never"))


def changed_paths(planned: Planned) -> list[tuple[str, str]]:
    """(resource, path) of what patches change in objects that are there."""
    return [
        (step.action.removeprefix("kubernetes:patch "), path)
        for step in planned.plan.steps
        if step.action.startswith("kubernetes:patch ") and step.effect == "update"
        for path in step.fields
    ]


def word_of(planned: Planned, again: Planned) -> Word:
    """The table's word for a plan. ``again`` is the plan with consent to replace, of the same pool."""
    if planned.faults:
        assert all("allow_replacement: true" in fault.allowed for fault in planned.faults)
        assert {step.effect for step in again.plan.steps} == {"create", "replace"}
        assert {step.effect for step in again.removal.steps} == {"replace", "delete"}
        return "replace"
    if not planned.plan.steps:
        return "no call"
    if any(step.effect == "create" and ("Create" in step.action or "nodepools" in step.action) for step in planned.plan.steps):
        return "new"
    if any(step.action.startswith("kubernetes:") for step in planned.plan.steps):
        assert {step.action.rpartition(" ")[2] for step in planned.plan.steps} <= OBJECTS
        return "rolling" if any(drifts(*one) for one in changed_paths(planned)) else "in place"
    actions = set(planned.actions)
    assert actions <= IN_PLACE | ROLLS | FROM
    assert bool(actions & ROLLS) or not actions & FROM, "a template that no node is launched from"
    return "rolling" if actions & ROLLS else "in place"


@pytest.mark.parametrize(("option", "provisioner", "word"), [row for row in ROWS if row[0] != "provisioner" and row[:2] not in CREATION])
def test_a_change_is_what_the_table_says(option: str, provisioner: str, word: Word) -> None:
    before, after = options(option, provisioner)
    assert pool_faults(before, "pool") == pool_faults(after, "pool") == []
    one, state = PROVISIONERS[provisioner], made(provisioner, before)
    same = one.plan(pool_of(before), state)
    assert (same.actions, same.plan.waits, same.faults) == ([], (), ()), "nothing is to be done before the change"
    planned = one.plan(pool_of(after), state)
    replacing = one.plan(pool_of(after), state, allow_replacement=True)
    assert word_of(planned, replacing) == word
    done = one.applied(replacing, state)
    settled = one.plan(pool_of(after), done)
    assert (settled.actions, settled.faults) == ([], ()), "once is enough"


@pytest.mark.parametrize(("option", "provisioner"), [row[:2] for row in ROWS if row[0] != "provisioner" and row[:2] not in CREATION])
def test_a_pool_that_was_changed_is_what_a_new_one_would_be(option: str, provisioner: str) -> None:
    before, after = options(option, provisioner)
    one, state = PROVISIONERS[provisioner], made(provisioner, before)
    changed = one.shown(one.applied(one.plan(pool_of(after), state, allow_replacement=True, prune=True), state))
    new = one.shown(made(provisioner, after))
    kept = [end for options_, ends in KEPT[provisioner].items() if option.startswith(options_) for end in ends]
    assert {path: (changed.get(path), new.get(path)) for path in sorted({*changed, *new}) if different(changed, new, path, kept)} == {}


def different(changed: Shown, new: Shown, path: str, kept: list[str]) -> bool:
    return changed.get(path) != new.get(path) and not any(path.endswith(end) for end in kept)


@pytest.mark.parametrize(("option", "provisioner"), [row[:2] for row in ROWS if not row[0].startswith(WHOLE)])
def test_an_option_that_is_no_longer_set_is_left_as_it_is(option: str, provisioner: str) -> None:
    _before, after = options(option, provisioner)
    one = PROVISIONERS[provisioner]
    planned = one.plan(pool_of(without(after, option)), made(provisioner, after))
    assert (planned.actions, planned.faults) == ([], ())


@pytest.mark.parametrize(("option", "provisioner"), CREATION)
def test_what_holds_at_creation_changes_nothing_later(option: str, provisioner: str) -> None:
    before, after = options(option, provisioner)
    one = PROVISIONERS[provisioner]
    new = one.plan(pool_of(after), one.empty())
    assert [step.request for step in new.plan.steps] != [step.request for step in one.plan(pool_of(before), one.empty()).plan.steps]
    planned = one.plan(pool_of(after), made(provisioner, before))
    assert (planned.actions, planned.faults) == ([], ())


@pytest.mark.parametrize("provisioner", PROVISIONERS)
def test_another_provisioner_makes_the_pool_beside_what_there_is(provisioner: str) -> None:
    one, state = PROVISIONERS[provisioner], made(provisioner, base(provisioner))
    left = one.plan(None, state)
    assert (left.actions, left.removal.steps) == ([], ()), "what the other one made stays"
    pruned = one.plan(None, state, prune=True)
    assert {step.effect for step in pruned.removal.steps} == {"delete"}
    gone = one.applied(pruned, state)
    assert one.plan(None, gone, prune=True).removal.steps == ()
    for other in PROVISIONERS.keys() - {provisioner}:
        assert made(other, base(other)), "the pool is made, whatever the first one has"


@pytest.mark.parametrize("provisioner", PROVISIONERS)
def test_user_data_keeps_the_form_of_the_image_that_there_is(provisioner: str) -> None:
    """Bottlerocket's nodes read TOML, also where the family is no longer set and something else of their user data is."""
    one = PROVISIONERS[provisioner]
    family, taints = {"family": "bottlerocket"}, [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]
    before: Params = {**base(provisioner), "ami": family, "startup_taints": taints, "user_data": ["[settings.motd]\n"]}
    after: Params = {**base(provisioner), "startup_taints": taints, "user_data": ["[settings.motd]\nx = 1\n"]}
    state = made(provisioner, before)
    changed = one.shown(one.applied(one.plan(pool_of(after), state), state))
    assert changed == one.shown(made(provisioner, {**after, "ami": family}))
