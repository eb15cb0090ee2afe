# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: owner_tags
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: The tags by which the collection knows what it made
description:
  - The tags that every AWS resource of a cluster carries from its create call on. Only what carries them is changed or deleted later.
positional: component, tags
options:
  _input:
    description: ARN of the cluster. It can be written down before the cluster exists.
    type: str
    required: true
  component:
    description: What the resource is for.
    type: str
    required: true
  tags:
    description: Further tags of the resource. Values that are no strings become what YAML writes for them, as in the collection's modules.
    type: dict
"""

EXAMPLES = r"""
- name: Make a log group that belongs to the cluster
  amazon.aws.cloudwatchlogs_log_group:
    log_group_name: /demo/training
    tags: "{{ 'arn:aws:eks:us-west-2:111122223333:cluster/demo' | gpuops.eks.owner_tags('training-logs') }}"
"""

RETURN = r"""
_value:
  description: The tags.
  type: dict
  sample:
    gpuops.eks/owner: arn:aws:eks:us-west-2:111122223333:cluster/demo
    gpuops.eks/component: training-logs
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.names import tag_texts
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import COMPONENT_TAG, OWNER_TAG


def owner_tags(cluster_arn: str, component: str, tags: t.Mapping[str, t.Any] | None = None) -> dict[str, str]:
    """Return the tags of a resource of the cluster."""
    return {**tag_texts(tags or {}), OWNER_TAG: cluster_arn, COMPONENT_TAG: component}


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"owner_tags": owner_tags}
