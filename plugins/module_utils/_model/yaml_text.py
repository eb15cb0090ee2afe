# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Configuration files in YAML, without a YAML library, which the modules' hosts need not have. Pure."""

from __future__ import annotations

import json
import re
import typing as t

_PLAIN_KEY = re.compile(r"[A-Za-z]+(-[A-Za-z]+)*")
_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")  # YAML 1.1 takes these for something else than text


def yaml_text(content: t.Mapping[str, t.Any]) -> str:
    """Block style with scalars as JSON, which YAML reads too: the same content always gives the same text."""
    return "\n".join(_lines(content)) + "\n"


def _lines(value: t.Mapping[str, t.Any] | t.Sequence[t.Any], indent: str = "") -> list[str]:
    entries = [(f"{_key(key)}:", item) for key, item in value.items()] if isinstance(value, t.Mapping) else [("-", item) for item in value]
    lines = []
    for head, item in entries:
        if head == "-" and isinstance(item, t.Mapping) and item:
            first, *rest = _lines(item, f"{indent}  ")
            lines += [f"{indent}- {first.strip()}", *rest]
        elif isinstance(item, (t.Mapping, list, tuple)) and item:
            lines += [f"{indent}{head}", *_lines(item, f"{indent}  ")]
        else:
            lines.append(f"{indent}{head} {_scalar(item)}")
    return lines


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and key.lower() not in _WORDS else _scalar(key)


def _scalar(value: t.Any) -> str:
    """JSON, but for characters that YAML would not take as they are or as JSON's pairs of surrogates."""
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\U{ord(found[0]):08x}", json.dumps(value, ensure_ascii=False))
