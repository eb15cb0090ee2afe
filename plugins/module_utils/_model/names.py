# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a cluster's name and the user's tags may look like. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault

_CLUSTER_NAME = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}")
_OWN_PREFIX = "gpuops.eks/"
# Each resource carries our own tags and its Name besides the user's; AWS allows 50 in all.
MAX_USER_TAGS = 40


def cluster_name_faults(value: t.Any, path: str) -> list[Fault]:
    """What is wrong with a cluster's name; a missing one is a fault of the options."""
    if value is None or (isinstance(value, str) and _CLUSTER_NAME.fullmatch(value)):
        return []
    allowed = "1 to 100 letters, digits, - and _, the first a letter or a digit"
    return [Fault(path=path, value=value, allowed=allowed, source="EKS API, CreateCluster name")]


def tag_texts(tags: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Tags as AWS keeps them; YAML's true and 42 are written as such."""
    return {str(key): str(value).lower() if isinstance(value, bool) else str(value) for key, value in tags.items()}


def tag_faults(tags: t.Any, path: str, *, reserved: t.Container[str] = ()) -> list[Fault]:
    """What is wrong with the user's tags. ``reserved`` are keys that the module sets itself."""
    if not isinstance(tags, t.Mapping):
        return []
    found = [fault for key, value in tags.items() if (fault := _tag_fault(str(key), value, f"{path}.{key}", reserved))]
    if len(tags) > MAX_USER_TAGS:
        allowed = f"at most {MAX_USER_TAGS} tags: AWS allows 50, the collection needs the others"
        found.append(Fault(path=path, value=len(tags), allowed=allowed, source="AWS, tag limits"))
    return found


def _tag_fault(key: str, value: t.Any, path: str, reserved: t.Container[str]) -> Fault | None:
    if key.lower().startswith("aws:"):
        return Fault(path=path, value=value, allowed="a key that does not begin with aws:", source="AWS, tag restrictions")
    if key.startswith(_OWN_PREFIX) or key in reserved:
        return Fault(path=path, value=value, allowed="another key; this one is set by the collection", source="the collection's tags")
    if not 1 <= len(key) <= 128:
        return Fault(path=path, value=key, allowed="a key of 1 to 128 characters", source="AWS, tag restrictions")
    if len(str(value)) > 256:
        return Fault(path=path, value=value, allowed="a value of at most 256 characters", source="AWS, tag restrictions")
    return None


def key_alias(cluster_name: str, purpose: str) -> str:
    """The alias of a cluster's KMS key (KMS API, CreateAlias: letters, digits, slashes, underscores and dashes). Aliases are regional."""
    return f"alias/gpuops-eks/{cluster_name}/{purpose}"
