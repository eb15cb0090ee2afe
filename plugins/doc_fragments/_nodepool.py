# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of a pool's options, made from the table that the argument spec is made from."""

from __future__ import annotations

import json

from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import documented_options

_POOLS = {
    "description": [
        "Several pools, handled in one run: node groups are created and updated side by side.",
        "Mutually exclusive with the options of a single pool.",
    ],
    "type": "list",
    "elements": "dict",
    "suboptions": documented_options(),
}


class ModuleDocFragment:
    """The options of one pool, flat, and of several under O(pools). JSON is YAML."""

    DOCUMENTATION = json.dumps({"options": {**documented_options(flat=True), "pools": _POOLS}})
