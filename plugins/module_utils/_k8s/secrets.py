# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What of a kubeconfig must never be shown."""

from __future__ import annotations

import typing as t

_SECRET_KEYS = frozenset(
    ("token", "password", "secret", "client-key-data", "id-token", "access-token", "refresh-token", "client-secret", "api_key")
)


def kubeconfig_secrets(value: t.Any) -> set[str]:
    """The secret strings of a kubeconfig that is given as a dictionary; of a path there are none."""
    if isinstance(value, list):
        return set().union(*(kubeconfig_secrets(item) for item in value))
    if not isinstance(value, dict):
        return set()
    found: set[str] = set()
    for key, item in value.items():
        if key in _SECRET_KEYS and isinstance(item, str):
            found.add(item)
        else:
            found |= kubeconfig_secrets(item)
    return {secret for secret in found if secret}
