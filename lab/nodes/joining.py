"""Whether an instance that runs becomes a node of its cluster, and with what from its user data: labels, taints, parted GPUs.

Sources: EKS User Guide, self-managed-nodes.html and create-node-role.html (a self-managed node's role needs an access entry of type
EC2_LINUX, or EC2, where the cluster's authentication mode knows entries); user data: lab.nodes.userdata.
"""

from __future__ import annotations

import dataclasses
import logging
import typing as t
from collections.abc import Callable

import botocore.exceptions

from lab.contracts import ClusterRef
from lab.kubernetes.client import Json
from lab.nodes import mig
from lab.nodes import node as nodes
from lab.nodes.userdata import Boot, CannotBoot, parse

_NODE_ENTRIES = ("EC2_LINUX", "EC2")
_log = logging.getLogger(__name__)


class Joining:
    """One cluster's door. What keeps an instance out is logged once; a missing access entry may still come."""

    def __init__(self, cluster: ClusterRef, client: Callable[[str], t.Any]) -> None:
        self._cluster, self._client = cluster, client
        self._user_data: dict[str, str] = {}
        self._said: dict[str, str] = {}

    def boot(self, raw: Json, instance: nodes.Instance, instance_type: Json) -> Boot | None:
        """What the instance's user data asks for, None when it does not join (now)."""
        try:
            return _parted(self._boot(raw, instance), instance, instance_type)
        except CannotBoot as error:
            if self._said.get(instance.instance_id) != str(error):
                self._said[instance.instance_id] = str(error)
                _log.warning("%s: %s does not join: %s", self._cluster.name, instance.instance_id, error)
            return None

    def forget_others(self, present: t.Container[str]) -> None:
        """Instances that are gone."""
        self._user_data = {i: text for i, text in self._user_data.items() if i in present}
        self._said = {i: text for i, text in self._said.items() if i in present}

    def _boot(self, raw: Json, instance: nodes.Instance) -> Boot:
        managed = instance.nodegroup is not None and instance.ami_type != "CUSTOM"
        text = self._text(instance.instance_id)
        boot = parse(text, bottlerocket=nodes.operating_system(instance) == "bottlerocket", managed=managed)
        if not managed:
            cluster = self._client("eks").describe_cluster(name=self._cluster.name)["cluster"]
            _check_cluster(boot, cluster)
            if instance.nodegroup is None and cluster["accessConfig"]["authenticationMode"] != "CONFIG_MAP":
                self._check_access(raw)
        return boot

    def _text(self, instance_id: str) -> str:
        """The user data: read at boot, it does not change while the instance runs."""
        if instance_id not in self._user_data:
            found = self._client("ec2").describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
            self._user_data[instance_id] = (found.get("UserData") or {}).get("Value") or ""
        return self._user_data[instance_id]

    def _check_access(self, raw: Json) -> None:
        profile = (raw.get("IamInstanceProfile") or {}).get("Arn")
        if profile is None:
            raise CannotBoot("it has no instance profile")
        try:
            roles = self._client("iam").get_instance_profile(InstanceProfileName=profile.rpartition("/")[2])["InstanceProfile"]["Roles"]
            arn = roles[0]["Arn"] if roles else ""
            entry = (
                self._client("eks").describe_access_entry(clusterName=self._cluster.name, principalArn=arn)["accessEntry"] if arn else {}
            )
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in ("NoSuchEntity", "ResourceNotFoundException"):
                raise
            raise CannotBoot(f"401 Unauthorized: {error.response['Error']['Message']}") from error
        if entry.get("type") not in _NODE_ENTRIES:
            who = (
                f"the role {arn} has an access entry of type {entry['type']}, which is not for nodes" if entry else f"{profile} has no role"
            )
            raise CannotBoot(f"401 Unauthorized: {who}")


def _parted(boot: Boot, instance: nodes.Instance, instance_type: Json) -> Boot:
    """With the layouts of its GPUs; raises CannotBoot where they cannot be had, since kubelet waits for them."""
    gpus = nodes.nvidia_gpus(instance_type) if nodes.has_driver(instance) else []
    name, memory = (gpus[0]["Name"].lower(), gpus[0]["MemoryInfo"]["SizeInMiB"]) if gpus else ("", 0)
    try:
        calls = boot.mig_calls
        if boot.device_plugin.get("device-partitioning-strategy") == "mig":
            calls = mig.bottlerocket_calls(boot.device_plugin.get("mig", {}).get("profile", {}), name, memory)
        layouts = mig.layouts(calls, mig.product(name, memory), sum(gpu["Count"] for gpu in gpus))
    except mig.Refused as error:
        raise CannotBoot(f"its GPUs are not parted as its user data wants it, and kubelet does not start: {error}") from error
    return dataclasses.replace(boot, layouts=layouts)


def _check_cluster(boot: Boot, cluster: Json) -> None:
    """Of the wrong name the token is refused, of the wrong endpoint or CA there is no connection."""
    expected = {
        "cluster name": (boot.cluster, cluster["name"]),
        "API server endpoint": (boot.endpoint, cluster.get("endpoint")),
        "certificate authority": (boot.certificate_authority, cluster.get("certificateAuthority", {}).get("data")),
    }
    for what, (given, wanted) in expected.items():
        if given != wanted:
            raise CannotBoot(f"the {what} in its user data is not the cluster's ({given!r})")
