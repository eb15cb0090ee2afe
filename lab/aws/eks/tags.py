"""Tags on any EKS ARN."""

from __future__ import annotations

import typing as t

from lab.aws.eks.context import Context, Params, Result, invalid_parameter, operation
from lab.aws.eks.state import Document
from lab.aws.errors import AwsError

MAX_TAGS = 50


def checked_tags(params: Params) -> dict[str, str]:
    """The tags of a create call; raises InvalidParameterException on reserved keys and limits."""
    tags: dict[str, str] = dict(params.get("tags", {}))
    fault = _tag_fault(tags)
    if fault:
        raise invalid_parameter(fault)
    return tags


def _tag_fault(tags: dict[str, str]) -> str | None:
    reserved = sorted(key for key in tags if key.lower().startswith("aws:"))
    if reserved:
        return f"Tag key {reserved[0]} uses the reserved prefix aws:"
    return f"A resource can have at most {MAX_TAGS} tags" if len(tags) > MAX_TAGS else None


def _tagged_documents(context: Context) -> t.Iterator[tuple[str, Document]]:
    for cluster in context.state.in_region(context.account, context.region):
        yield cluster.document["arn"], cluster.document
        for nodegroup in cluster.nodegroups.values():
            yield nodegroup.document["nodegroupArn"], nodegroup.document
        for entry in cluster.access_entries.values():
            yield entry.document["accessEntryArn"], entry.document
        for addon in cluster.addons.values():
            yield addon.document["addonArn"], addon.document
        for association in cluster.associations.values():
            yield association["associationArn"], association


def _tagged(context: Context, arn: str) -> Document:
    """The document behind an ARN; raises NotFoundException (the tag operations have error shapes of their own)."""
    for candidate, document in _tagged_documents(context):
        if candidate == arn:
            return document
    raise AwsError("NotFoundException", f"Resource {arn} was not found", 404)


@operation("TagResource")
def tag_resource(context: Context, params: Params) -> Result:
    document = _tagged(context, params["resourceArn"])
    tags = {**document["tags"], **params["tags"]}
    fault = _tag_fault(tags)
    if fault:
        raise AwsError("BadRequestException", fault)
    document["tags"] = tags
    return {}


@operation("UntagResource")
def untag_resource(context: Context, params: Params) -> Result:
    document = _tagged(context, params["resourceArn"])
    document["tags"] = {key: value for key, value in document["tags"].items() if key not in params["tagKeys"]}
    return {}


@operation("ListTagsForResource")
def list_tags_for_resource(context: Context, params: Params) -> Result:
    return {"tags": _tagged(context, params["resourceArn"])["tags"]}
