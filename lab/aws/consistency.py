"""Stale reads: what was just made is not seen everywhere yet. AWS is eventually consistent, moto is not.

Sources: Amazon EC2 API developer guide, "Eventual consistency in the Amazon EC2 API" (an id that a call has just returned can be unknown to
the next one); IAM User Guide, "Changes that I make are not always immediately visible"; AWS KMS developer guide, "AWS KMS eventual
consistency"; EKS User Guide, "Create access entries" and "EKS Pod Identity associations" (eventually consistent, several seconds). The words
of the refusals are those of the services' error references; where there is none, of what users report.
"""

from __future__ import annotations

import json
import re
import threading
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree

from werkzeug.wrappers import Response

from lab.aws.calls import Call
from lab.aws.errors import AwsError
from lab.clock import Clock
from lab.contracts import ClusterRef

Key = tuple[str, str, str, str, str]  # account, region, kind, scope, id


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Things of one sort: which calls make them, where their id is, which replies show them, and how AWS says that there is none.

    ``id_in_request`` or ``id_in_reply`` names the member with the id. ``named_by`` are the parameters that name one; without, every
    parameter does, because ids of EC2 are unique. ``shown_by`` is operation → (list, member of its items with the id, empty: the item
    itself). ``described``: whether reads by id are stale too, and not lists alone.
    """

    name: str
    service: str
    made_by: tuple[str, ...]
    id_in_request: str = ""
    id_in_reply: str = ""
    named_by: tuple[str, ...] = ()
    shown_by: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    described: bool = True
    code: str = ""
    message: str = ""
    status: int = 400

    def id_of(self, call: Call, body: bytes) -> list[str]:
        """The ids of what ``call`` has made."""
        if self.id_in_request:
            return [str(call.params.get(self.id_in_request, ""))]
        name = self.id_in_reply.encode()
        found = re.findall(rb"<%s>([^<]+)</%s>" % (name, name), body) or re.findall(rb'"%s": ?"([^"]+)"' % name, body)
        return [value.decode() for value in dict.fromkeys(found)]

    def refusal(self, call: Call, thing: str) -> AwsError:
        """There is no such thing, in the words of the service that is asked."""
        message = self.message.format(id=thing, region=call.region, account=call.account)
        if call.service == self.service:
            return AwsError(self.code, message, self.status)
        code = {"eks": "InvalidParameterException", "autoscaling": "ValidationError"}.get(call.service, self.code)
        return AwsError(code, f"{message} (Service: Amazon{self.service.upper()}; Status Code: {self.status}; Error Code: {self.code})")


def _ec2(name: str, made_by: str, element: str, describe: str, shown_in: str, code: str, message: str, **others: tuple[str, str]) -> Kind:
    return Kind(
        name=name,
        service="ec2",
        made_by=(made_by,),
        id_in_reply=element,
        shown_by={describe: (shown_in, element), **others},
        code=code,
        message=message,
    )


def _iam(name: str, made_by: str, parameter: str, lists: Mapping[str, tuple[str, str]], message: str, *, by_arn: bool = False) -> Kind:
    return Kind(
        name=name,
        service="iam",
        made_by=(made_by,),
        id_in_request="" if by_arn else parameter,
        id_in_reply=(parameter if parameter.startswith("OpenID") else "Arn") if by_arn else "",
        named_by=(parameter,),
        shown_by=lists,
        code="NoSuchEntity",
        message=message,
        status=404,
    )


KINDS: tuple[Kind, ...] = (
    _ec2("vpc", "CreateVpc", "vpcId", "DescribeVpcs", "vpcSet", "InvalidVpcID.NotFound", "The vpc ID '{id}' does not exist"),
    _ec2(
        "subnet",
        "CreateSubnet",
        "subnetId",
        "DescribeSubnets",
        "subnetSet",
        "InvalidSubnetID.NotFound",
        "The subnet ID '{id}' does not exist",
    ),
    _ec2(
        "route_table",
        "CreateRouteTable",
        "routeTableId",
        "DescribeRouteTables",
        "routeTableSet",
        "InvalidRouteTableID.NotFound",
        "The routeTable ID '{id}' does not exist",
    ),
    _ec2(
        "internet_gateway",
        "CreateInternetGateway",
        "internetGatewayId",
        "DescribeInternetGateways",
        "internetGatewaySet",
        "InvalidInternetGatewayID.NotFound",
        "The internetGateway ID '{id}' does not exist",
    ),
    _ec2(
        "nat_gateway",
        "CreateNatGateway",
        "natGatewayId",
        "DescribeNatGateways",
        "natGatewaySet",
        "NatGatewayNotFound",
        "NAT gateway {id} was not found",
    ),
    _ec2(
        "address",
        "AllocateAddress",
        "allocationId",
        "DescribeAddresses",
        "addressesSet",
        "InvalidAllocationID.NotFound",
        "The allocation ID '{id}' does not exist",
    ),
    _ec2(
        "security_group",
        "CreateSecurityGroup",
        "groupId",
        "DescribeSecurityGroups",
        "securityGroupInfo",
        "InvalidGroup.NotFound",
        "The security group '{id}' does not exist",
        DescribeSecurityGroupRules=("securityGroupRuleSet", "groupId"),
    ),
    _ec2(
        "vpc_endpoint",
        "CreateVpcEndpoint",
        "vpcEndpointId",
        "DescribeVpcEndpoints",
        "vpcEndpointSet",
        "InvalidVpcEndpointId.NotFound",
        "The Vpc Endpoint Id '{id}' does not exist",
    ),
    _ec2(
        "network_interface",
        "CreateNetworkInterface",
        "networkInterfaceId",
        "DescribeNetworkInterfaces",
        "networkInterfaceSet",
        "InvalidNetworkInterfaceID.NotFound",
        "The networkInterface ID '{id}' does not exist",
    ),
    _ec2(
        "instance",
        "RunInstances",
        "instanceId",
        "DescribeInstances",
        "instancesSet",
        "InvalidInstanceID.NotFound",
        "The instance ID '{id}' does not exist",
    ),
    _ec2(
        "launch_template",
        "CreateLaunchTemplate",
        "launchTemplateId",
        "DescribeLaunchTemplates",
        "launchTemplates",
        "InvalidLaunchTemplateId.NotFound",
        "The specified launch template, with template ID {id}, does not exist.",
    ),
    Kind(
        name="launch_template",
        service="ec2",
        made_by=("CreateLaunchTemplate",),
        id_in_request="LaunchTemplateName",
        named_by=("LaunchTemplateName", "launchTemplateName"),
        code="InvalidLaunchTemplateName.NotFoundException",
        message="At least one of the launch templates specified in the request does not exist: {id}",
    ),
    _iam("iam_role", "CreateRole", "RoleName", {"ListRoles": ("Roles", "RoleName")}, "The role with name {id} cannot be found."),
    _iam(
        "iam_policy",
        "CreatePolicy",
        "PolicyArn",
        {"ListPolicies": ("Policies", "Arn")},
        "Policy {id} does not exist or is not attachable.",
        by_arn=True,
    ),
    _iam(
        "iam_instance_profile",
        "CreateInstanceProfile",
        "InstanceProfileName",
        {"ListInstanceProfiles": ("InstanceProfiles", "InstanceProfileName")},
        "Instance Profile {id} cannot be found.",
    ),
    _iam(
        "iam_oidc_provider",
        "CreateOpenIDConnectProvider",
        "OpenIDConnectProviderArn",
        {"ListOpenIDConnectProviders": ("OpenIDConnectProviderList", "Arn")},
        "OpenIDConnect Provider not found for arn {id}",
        by_arn=True,
    ),
    Kind(
        name="kms_alias",
        service="kms",
        made_by=("CreateAlias",),
        id_in_request="AliasName",
        named_by=("KeyId", "AliasName"),
        shown_by={"ListAliases": ("Aliases", "AliasName")},
        code="NotFoundException",
        message="Alias arn:aws:kms:{region}:{account}:{id} is not found.",
    ),
    Kind(
        name="kms_key",
        service="kms",
        made_by=("CreateKey",),
        id_in_reply="KeyId",
        named_by=("KeyId", "TargetKeyId"),
        shown_by={"ListKeys": ("Keys", "KeyId"), "GetResources": ("ResourceTagMappingList", "ResourceARN")},
        code="NotFoundException",
        message="Key 'arn:aws:kms:{region}:{account}:key/{id}' does not exist",
    ),
    # DescribeAccessEntry, DescribeAddon and DescribePodIdentityAssociation see at once what was made, the lists do not.
    Kind(
        name="eks_access_entry",
        service="eks",
        made_by=("CreateAccessEntry",),
        id_in_request="principalArn",
        named_by=("principalArn",),
        shown_by={"ListAccessEntries": ("accessEntries", "")},
        described=False,
        code="ResourceNotFoundException",
        message="The specified principalArn could not be found. You may want to create an access entry for {id}.",
        status=404,
    ),
    Kind(
        name="eks_addon",
        service="eks",
        made_by=("CreateAddon",),
        id_in_request="addonName",
        shown_by={"ListAddons": ("addons", "")},
        described=False,
    ),
    Kind(
        name="eks_pod_identity_association",
        service="eks",
        made_by=("CreatePodIdentityAssociation",),
        id_in_reply="associationId",
        shown_by={"ListPodIdentityAssociations": ("associations", "associationId")},
        described=False,
    ),
)
NAMES = tuple(dict.fromkeys(kind.name for kind in KINDS))

_INVALID = "InvalidParameterException"
_NO_ROLE = (_INVALID, "Role provided in the request does not exist.")
_NO_PRINCIPAL = ("MalformedPolicyDocumentException", "Policy contains a statement with one or more invalid principals.")
# What other services say of a role that they cannot see yet: (kind, service, operation) → code and message.
_USES: dict[tuple[str, str, str], tuple[str, str]] = {
    ("iam_role", "eks", "CreateCluster"): (
        _INVALID,
        "Role with arn: {text}, could not be assumed because it does not exist or the trusted entity is not correct",
    ),
    ("iam_role", "eks", "CreateNodegroup"): (
        _INVALID,
        "The role with name {id} cannot be found. (Service: AmazonIdentityManagement; Status Code: 404; Error Code: NoSuchEntity)",
    ),
    ("iam_role", "eks", "CreateAccessEntry"): (_INVALID, "The specified principalArn is invalid: invalid principal."),
    **{
        ("iam_role", "eks", operation): _NO_ROLE
        for operation in ("CreateAddon", "UpdateAddon", "CreatePodIdentityAssociation", "UpdatePodIdentityAssociation")
    },
    ("iam_role", "kms", "CreateKey"): _NO_PRINCIPAL,
    ("iam_role", "kms", "PutKeyPolicy"): _NO_PRINCIPAL,
    ("iam_instance_profile", "ec2", "RunInstances"): (
        "InvalidParameterValue",
        "Value ({text}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
    ),
}


class Consistency:
    """What is not visible yet, by the lab's clock; nothing, unless somebody asks for it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._visible_at: dict[Key, float] = {}
        self.clear()

    def clear(self) -> None:
        """Off, and everything visible."""
        self._seconds, self._kinds, self._references = 0.0, frozenset(NAMES), False
        with self._lock:
            self._visible_at.clear()

    def configure(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        """From now on; 0 seconds: off, and everything visible. Raises ValueError for what makes no sense."""
        unknown = request.keys() - {"seconds", "kinds", "references"}
        if unknown or "seconds" not in request:
            raise ValueError("consistency takes seconds, and kinds (a list) and references (true or false)")
        kinds = frozenset(NAMES if request.get("kinds") is None else request["kinds"])
        if strange := sorted(kinds - set(NAMES)):
            raise ValueError(f"kinds: {', '.join(strange)}: not among {', '.join(NAMES)}")
        if float(request["seconds"]) < 0 or not isinstance(request.get("references", False), bool):
            raise ValueError("seconds is 0 or more, references true or false")
        if not float(request["seconds"]):
            self.clear()
        self._seconds, self._kinds, self._references = float(request["seconds"]), kinds, bool(request.get("references", False))
        return self.describe()

    def describe(self) -> dict[str, t.Any]:
        """The setting, and how many things are stale now."""
        stale = len(self._stale())
        return {"seconds": self._seconds, "kinds": sorted(self._kinds), "references": self._references, "stale": stale}

    def check(self, call: Call) -> None:
        """Raises AwsError when ``call`` names, or uses, what is not visible yet."""
        stale = self._stale(call)
        if not stale:
            return
        named = list(_named(call))
        for kind in KINDS:
            for thing in stale.get(kind.name, ()):
                _check_use(call, kind, thing, named)
                if self._refuses(call, kind):
                    _check_name(call, kind, thing, named)

    def _refuses(self, call: Call, kind: Kind) -> bool:
        """Whether the call fails when it names a stale thing of the kind. To make one of that name again is a conflict, as ever."""
        if not kind.code or call.operation in kind.made_by:
            return False
        return self._references if call.mutating else kind.described and call.service == kind.service

    def answered(self, call: Call, response: Response) -> None:
        """Take note of what the call has made, and take out of the reply what is not visible yet."""
        if response.status_code >= 300 or call.dry_run:
            return
        for kind in KINDS:
            if call.service == kind.service and call.operation in kind.made_by and kind.name in self._kinds and self._seconds:
                self._note(call, kind, kind.id_of(call, response.get_data()))
            elif call.operation in kind.shown_by and (stale := self._stale(call).get(kind.name)):
                _take_out(response, *kind.shown_by[call.operation], stale)

    def hides_entry(self, cluster: ClusterRef, principal_arn: str) -> bool:
        """Whether the API server does not know of a principal's access entry yet."""
        with self._lock:
            due = self._visible_at.get((cluster.account, cluster.region, "eks_access_entry", cluster.name, principal_arn), 0.0)
        return due > self._clock.seconds()

    def _note(self, call: Call, kind: Kind, things: list[str]) -> None:
        due = self._clock.seconds() + self._seconds
        with self._lock:
            for thing in things:
                key = (call.account, _region(kind.service, call.region), kind.name, _scope(call), thing)
                if kind.service == "ec2":  # a repeated client token gets the reply again, and makes nothing anew
                    self._visible_at.setdefault(key, due)
                else:
                    self._visible_at[key] = due

    def _stale(self, call: Call | None = None) -> dict[str, list[str]]:
        """Ids by kind of what ``call`` could name and cannot see; without a call, all of them."""
        now = self._clock.seconds()
        found: dict[str, list[str]] = {}
        with self._lock:
            keys = [key for key, due in self._visible_at.items() if due > now]
        for account, region, kind, scope, thing in keys:
            if call is None or (account == call.account and region in ("", call.region) and scope in ("", _scope(call))):
                found.setdefault(kind, []).append(thing)
        return found


def _region(service: str, region: str) -> str:
    return "" if service == "iam" else region


def _scope(call: Call) -> str:
    """The cluster that names of EKS's parts belong to; in most paths of the API it is called name."""
    return str(call.params.get("clusterName") or call.params.get("name", "")) if call.service == "eks" else ""


def _named(call: Call) -> Iterator[tuple[str, str]]:
    """Every text of the parameters with the name that it stands under, documents in texts included; filters name nothing."""
    for name, value in call.params.items():
        if not name.startswith(("Filter", "TagSpecification", "ClientToken")):
            yield from _texts(name.rstrip(".0123456789").rpartition(".")[2], value)


def _texts(name: str, value: t.Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _texts(inner, item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(name, item)
    elif isinstance(value, str):
        yield name, value
        if value.startswith("{"):
            yield from _texts(name, _document(value))


def _document(text: str) -> t.Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _names(text: str, thing: str) -> bool:
    """Whether ``text`` is the id, or an ARN of it."""
    return text == thing or text.endswith((f"/{thing}", f":{thing}"))


def _names_any(text: str, things: list[str]) -> bool:
    return any(_names(text, thing) for thing in things)


def _check_use(call: Call, kind: Kind, thing: str, named: list[tuple[str, str]]) -> None:
    use = _USES.get((kind.name, call.service, call.operation))
    if use is None:
        return
    for name, text in named:
        as_arn = kind.name == "iam_role" and ":role/" in text
        if (as_arn or name == "Name") and _names(text, thing):
            raise AwsError(use[0], use[1].format(id=thing, text=text))


def _check_name(call: Call, kind: Kind, thing: str, named: list[tuple[str, str]]) -> None:
    for name, text in named:
        if (not kind.named_by or name in kind.named_by) and _names(text, thing):
            raise kind.refusal(call, thing)


def _take_out(response: Response, shown_in: str, member: str, stale: list[str]) -> None:
    """Drop the items of a list in the reply whose id is stale."""
    body = response.get_data()
    if body.lstrip().startswith(b"<"):
        response.set_data(_without_elements(body, shown_in, member, stale))
        return
    document = json.loads(body)
    items = document.get(shown_in) or []
    document[shown_in] = [item for item in items if not _names_any(str(item[member] if member else item), stale)]
    response.set_data(json.dumps(document))


def _without_elements(body: bytes, shown_in: str, member: str, stale: list[str]) -> bytes:
    root = ElementTree.fromstring(body)
    namespace = root.tag.rpartition("}")[0].lstrip("{")
    prefix = f"{{{namespace}}}" if namespace else ""
    for items in root.iter(f"{prefix}{shown_in}"):
        for item in list(items):
            if _names_any(item.findtext(f"{prefix}{member}", ""), stale):
                items.remove(item)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", default_namespace=namespace or None)
    return text
