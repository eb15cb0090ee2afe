# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What differs between the managed fields that are wanted and those that are there. Pure."""

from __future__ import annotations

import typing as t


def changed_fields(desired: t.Mapping[str, t.Any], observed: t.Mapping[str, t.Any]) -> dict[str, tuple[t.Any, t.Any]]:
    """Field -> (observed, desired) for each field that is wanted otherwise than it is; a desired None is not managed."""
    return {name: (observed.get(name), wanted) for name, wanted in desired.items() if wanted is not None and observed.get(name) != wanted}


def tag_changes(
    desired: t.Mapping[str, str] | None, observed: t.Mapping[str, str], *, purge: bool, keep: t.Iterable[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """(tags to set, keys to remove). ``desired`` None: tags are not managed. AWS's own (``aws:``) and ``keep`` are never removed."""
    if desired is None:
        return {}, []
    to_set = {key: value for key, value in desired.items() if observed.get(key) != value}
    kept = set(keep)
    surplus = [key for key in observed if key not in desired and key not in kept and not key.startswith("aws:")]
    return to_set, sorted(surplus) if purge else []
