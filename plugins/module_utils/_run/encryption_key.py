# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_encryption_key: find the key by its alias or its mark, plan, make it so."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster_parts import planned_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.encryption_key import (
    PENDING,
    Key,
    Wanted,
    autoscaling_role,
    key_policy,
    same_policy,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import key_alias
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import COMPONENT_TAG, OWNER_TAG, Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.encryption_key import plan_create, plan_delete, plan_update
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

_MISSING = ("NotFoundException",)


def key_job(run: Run) -> Outcome:
    """Make the key, change it, or schedule its deletion."""
    wanted = Wanted.from_params(run.params)
    owner = run.owner(run.params["cluster_name"])
    observed = _observe(run.aws, wanted, owner)
    if observed and not owner.owns(observed.tags):
        hint = "Give that key to whoever needs one by its ARN, or remove the alias."
        raise GpuopsError(
            f"{key_alias(owner.cluster_name, wanted.purpose)} is the alias of {observed.arn}, which was not made here.", hint=hint
        )
    return _absent(run, wanted, owner, observed) if run.params["state"] == "absent" else _present(run, wanted, owner, observed)


def _present(run: Run, wanted: Wanted, owner: Owner, observed: Key | None) -> Outcome:
    given = {f"role_arns[{index}]": arn for index, arn in enumerate(wanted.role_arns)}
    if not run.check_mode and (faults := planned_faults(given)):
        raise InvalidInput(faults)
    missing = _lacks_role(run.aws, wanted, owner, observed)
    if observed is None:
        plan, key = plan_create(wanted, owner, service_linked_role=missing)
    else:
        plan, key = plan_update(wanted, observed, owner, service_linked_role=missing)
    bound = run.apply(plan)
    if plan.steps and not run.check_mode:
        # KMS may not find by alias or tag what it has just made.
        arn = bound.get(key.arn, key.arn)
        key = _observe(run.aws, wanted, owner) or replace(key, arn=arn, key_id=arn.rpartition("/")[2])
    return Outcome(plan=plan, result={"encryption_key": _result(key, wanted, owner)})


def _absent(run: Run, wanted: Wanted, owner: Owner, observed: Key | None) -> Outcome:
    if observed is None:
        return Outcome(result={"encryption_key": None})
    if not run.check_mode and observed.state != PENDING:
        _guard(run, owner, observed)
    plan = plan_delete(wanted, observed, owner)
    run.apply(plan)
    return Outcome(plan=plan, result={"encryption_key": None})


def _guard(run: Run, owner: Owner, key: Key) -> None:
    """A cluster whose key is gone cannot be used again. In check mode it may be about to be deleted."""
    reply = run.aws.find("eks:DescribeCluster", {"name": owner.cluster_name}, missing=("ResourceNotFoundException",))
    setups = (reply["cluster"].get("encryptionConfig") or ()) if reply else ()
    if any(setup.get("provider", {}).get("keyArn") == key.arn for setup in setups):
        raise GpuopsError(f"Cluster {owner.cluster_name} encrypts its secrets with {key.arn}.", hint="Delete the cluster first.")


def _lacks_role(aws: Aws, wanted: Wanted, owner: Owner, observed: Key | None) -> bool:
    """Whether the key policy will name a service-linked role that the account does not have; read where a policy will be written only."""
    policy = key_policy(wanted, owner)
    role = autoscaling_role(owner)
    if role not in json.dumps(policy) or (observed and same_policy(policy, observed.policy)):
        return False
    return aws.find("iam:GetRole", {"RoleName": role.rpartition("/")[2]}, missing=("NoSuchEntity",)) is None


def _observe(aws: Aws, wanted: Wanted, owner: Owner) -> Key | None:
    """The key of the alias; without one the key with the mark, which an interrupted run or a teardown has left."""
    alias = key_alias(owner.cluster_name, wanted.purpose)
    if reply := aws.find("kms:DescribeKey", {"KeyId": alias}, missing=_MISSING):
        return _whole(aws, reply["KeyMetadata"], alias=True)
    marks = [{"Key": OWNER_TAG, "Values": [owner.arn]}, {"Key": COMPONENT_TAG, "Values": [wanted.component]}]
    request = {"TagFilters": marks, "ResourceTypeFilters": ["kms:key"]}
    arns = [found["ResourceARN"] for found in aws.pages("resourcegroupstaggingapi:GetResources", "ResourceTagMappingList", request)]
    keys = [reply["KeyMetadata"] for arn in arns if (reply := aws.find("kms:DescribeKey", {"KeyId": arn}, missing=_MISSING))]
    usable = [key for key in keys if key["KeyState"] != PENDING]
    if len(usable) > 1:
        hint = "Schedule the deletion of those that nothing is encrypted with, then run again."
        names = ", ".join(sorted(key["Arn"] for key in usable))
        raise GpuopsError(f"Several keys carry the mark of {owner.arn} for {wanted.purpose}: {names}.", hint=hint)
    pending = sorted((key for key in keys if key["KeyState"] == PENDING), key=lambda key: str(key.get("DeletionDate")))
    chosen = (usable or pending)[-1:]
    return _whole(aws, chosen[0], alias=False) if chosen else None


def _whole(aws: Aws, api: t.Mapping[str, t.Any], *, alias: bool) -> Key:
    key = {"KeyId": api["KeyId"]}
    tags = aws.pages("kms:ListResourceTags", "Tags", key)
    policy = aws.call("kms:GetKeyPolicy", {**key, "PolicyName": "default"})["Policy"]
    pending = api["KeyState"] == PENDING  # KMS tells nothing of the rotation of such a key
    rotation = False if pending else aws.call("kms:GetKeyRotationStatus", key)["KeyRotationEnabled"]
    date = api.get("DeletionDate")
    return Key(
        key_id=api["KeyId"],
        arn=api["Arn"],
        state=api["KeyState"],
        description=api.get("Description", ""),
        deletion_date=date.isoformat() if date else None,
        tags={tag["TagKey"]: tag["TagValue"] for tag in tags},
        policy=json.loads(policy),
        rotation=rotation,
        alias=alias,
    )


def _result(key: Key, wanted: Wanted, owner: Owner) -> dict[str, t.Any]:
    return {
        "key_id": key.key_id,
        "arn": key.arn,
        "alias": key_alias(owner.cluster_name, wanted.purpose),
        "purpose": wanted.purpose,
        "key_state": key.state,
        "rotation_enabled": key.rotation,
        "policy": dict(key.policy),
        "deletion_date": key.deletion_date,
        "tags": dict(key.tags),
    }
