"""Placement groups, which moto does not have.

Sources: API CreatePlacementGroup, DescribePlacementGroups and DeletePlacementGroup of EC2; EC2 User Guide, "Placement strategies": a cluster
group lies in one zone. The words of the refusal of a second zone are the lab's.
"""

from __future__ import annotations

import re
import typing as t
import uuid

from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response

from lab.aws.errors import AwsError
from lab.aws.moto_fixes import Wrapper, wraps
from lab.aws.tagging import filtered, request_tags, tag_list

GONE = ("terminated", "shutting-down")
_NAME = re.compile(r"[\x20-\x7e]{1,255}")


def _groups(backend: t.Any) -> dict[str, dict[str, t.Any]]:
    groups: dict[str, dict[str, t.Any]] = backend.__dict__.setdefault("lab_placement_groups", {})
    return groups


def _members(backend: t.Any, name: str) -> list[t.Any]:
    return [item for item in backend.all_instances() if item.state not in GONE and getattr(item.placement, "group_name", "") == name]


def _unknown(name: str) -> AwsError:
    return AwsError("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")


def check(backend: t.Any, name: str, zone: str) -> None:
    """Raises AwsError when there is no such group, or it is a cluster group with instances in another zone."""
    if not name:
        return
    group = _groups(backend).get(name)
    if group is None:
        raise _unknown(name)
    elsewhere = sorted({item.placement.zone for item in _members(backend, name)} - {zone})
    if group["Strategy"] == "cluster" and elsewhere:
        message = f"The cluster placement group '{name}' has instances in {elsewhere[0]}; it cannot span Availability Zones ({zone})."
        raise AwsError("InvalidParameterCombination", message)


def _document(backend: t.Any, group: dict[str, t.Any]) -> dict[str, t.Any]:
    return {**group, "Tags": tag_list(backend, group["GroupId"])}


@wraps(EC2Response, "create_placement_group")
def create_placement_group(original: Wrapper | None, response: EC2Response) -> ActionResult:
    params, backend = response._get_params(), response.ec2_backend
    name = params.get("GroupName") or ""
    strategy = params.get("Strategy") or "cluster"
    if not _NAME.fullmatch(name):
        raise AwsError("InvalidParameterValue", f"Value ({name}) for parameter groupName is invalid.")
    if name in _groups(backend):
        raise AwsError("InvalidPlacementGroup.Duplicate", f"The Placement Group '{name}' already exists.")
    if strategy not in ("cluster", "spread", "partition"):
        raise AwsError("InvalidParameterValue", f"Invalid placement strategy '{strategy}'.")
    response.error_on_dryrun()
    group_id = f"pg-{uuid.uuid4().hex[:17]}"
    group = {
        "GroupName": name,
        "State": "available",
        "Strategy": strategy,
        "GroupId": group_id,
        "GroupArn": f"arn:aws:ec2:{response.region}:{response.current_account}:placement-group/{name}",
    }
    if strategy == "partition":
        group["PartitionCount"] = params.get("PartitionCount") or 2
    if strategy == "spread":
        group["SpreadLevel"] = params.get("SpreadLevel") or "rack"
    _groups(backend)[name] = group
    backend.create_tags([group_id], request_tags(params, "placement-group"))
    return ActionResult({"PlacementGroup": _document(backend, group)})


@wraps(EC2Response, "describe_placement_groups")
def describe_placement_groups(original: Wrapper | None, response: EC2Response) -> ActionResult:
    params, backend = response._get_params(), response.ec2_backend
    groups = _groups(backend)
    for name in params.get("GroupNames", []):
        if name not in groups:
            raise _unknown(name)
    ids = {group["GroupId"] for group in groups.values()}
    for group_id in params.get("GroupIds", []):
        if group_id not in ids:
            raise AwsError("InvalidPlacementGroupId.NotFound", f"The Placement Group '{group_id}' does not exist.")
    chosen = [
        _document(backend, group)
        for group in groups.values()
        if group["GroupName"] in (params.get("GroupNames") or groups) and group["GroupId"] in (params.get("GroupIds") or ids)
    ]
    names = {"group-name": "GroupName", "strategy": "Strategy", "state": "State", "group-arn": "GroupArn"}
    return ActionResult({"PlacementGroups": filtered(chosen, response, names)})


@wraps(EC2Response, "delete_placement_group")
def delete_placement_group(original: Wrapper | None, response: EC2Response) -> ActionResult:
    name, backend = response._get_params().get("GroupName") or "", response.ec2_backend
    if name not in _groups(backend):
        raise _unknown(name)
    if _members(backend, name):
        raise AwsError("InvalidPlacementGroup.InUse", f"The placement group '{name}' is in use and may not be deleted.")
    response.error_on_dryrun()
    backend.tags.pop(_groups(backend).pop(name)["GroupId"], None)
    return ActionResult({})
