# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""How many GPUs the nodes' instance types have, from EC2; what cannot be read stays unknown."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Hardware, Node
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Run

ACTION = "ec2:DescribeInstanceTypes"
_TYPES_PER_CALL = 100


class GpuCatalog:
    """Instance type -> its GPUs, read once for each type. ``warning`` says why some are unknown."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.types: dict[str, Hardware | None] = {}
        self.warning = ""
        self.asked = False

    def read(self, nodes: t.Iterable[Node]) -> dict[str, Hardware | None]:
        """The catalogue, with the types of these nodes; types that EC2 does not know are None."""
        missing = sorted({node.instance_type for node in nodes if node.needs_catalog and node.instance_type} - set(self.types))
        for start in range(0, len(missing), _TYPES_PER_CALL):
            self._add(missing[start : start + _TYPES_PER_CALL])
        return self.types

    def _add(self, names: list[str]) -> None:
        self.types.update(dict.fromkeys(names))
        self.asked = True
        try:
            self._run.region  # noqa: B018 - without a region no client can be built: said here as an error of ours
            # By filter: one unknown name among InstanceTypes would be an error for all of them.
            found = self._run.aws.pages(ACTION, "InstanceTypes", {"Filters": [{"Name": "instance-type", "Values": names}]})
        except GpuopsError as error:
            self.warning = f"The number of GPUs of {', '.join(names)} is unknown: {error}"
            return
        self.types.update({item["InstanceType"]: Hardware.from_api(item) for item in found})
