"""Tags and filters of EC2 resources that moto does not have."""

from __future__ import annotations

import fnmatch
import typing as t

Document = dict[str, t.Any]


def request_tags(params: Document, resource_type: str) -> dict[str, str]:
    """The tags of a request's TagSpecifications for the resource that it makes."""
    specifications = params.get("TagSpecifications") or ()
    return {tag["Key"]: tag["Value"] for item in specifications if item["ResourceType"] == resource_type for tag in item.get("Tags", ())}


def tag_list(backend: t.Any, resource_id: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in backend.tags.get(resource_id, {}).items()]


def filtered(documents: t.Iterable[Document], response: t.Any, names: t.Mapping[str, str]) -> list[Document]:
    """Those that pass every filter of the request: tag:KEY, tag-key, or one of ``names``, filter → field. Others let nothing pass."""
    filters: dict[str, list[str]] = response._filters_from_querystring()
    return [document for document in documents if all(_passes(document, name, values, names) for name, values in filters.items())]


def _passes(document: Document, name: str, values: list[str], names: t.Mapping[str, str]) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in document.get("Tags", ())}
    if name.startswith("tag:"):
        found = [tags[name[4:]]] if name[4:] in tags else []
    elif name == "tag-key":
        found = list(tags)
    else:
        found = [str(document[names[name]])] if names.get(name) in document else []
    return any(fnmatch.fnmatchcase(item, value) for item in found for value in values)
