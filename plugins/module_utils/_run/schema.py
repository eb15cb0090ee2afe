# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Values against a JSON schema, where the Python package jsonschema is there to judge them."""

from __future__ import annotations

import contextlib
import json
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault

HAS_JSONSCHEMA = False
with contextlib.suppress(ImportError):
    import jsonschema
    from jsonschema.validators import validator_for

    HAS_JSONSCHEMA = True


class Unjudged(Exception):
    """The values could not be judged; says why."""


def schema_faults(schema: str, values: t.Mapping[str, t.Any], path: str, source: str) -> list[Fault]:
    """Everything that the schema (a JSON text; the draft that it names, else draft 7) finds wrong, each with its path below ``path``.

    Unjudged where jsonschema is missing or the schema itself is unusable: the service judges then.
    """
    if not HAS_JSONSCHEMA:
        raise Unjudged("the Python package jsonschema is not installed")
    try:
        parsed = json.loads(schema)
        judge = validator_for(parsed, default=jsonschema.Draft7Validator)
        judge.check_schema(parsed)
        errors = sorted(judge(parsed).iter_errors(values), key=lambda error: [str(part) for part in error.absolute_path])
    except Exception as error:  # somebody else's schema, of which a reference may lead nowhere, stops nobody
        raise Unjudged(f"the schema cannot be used: {error}") from error
    return [_fault(error, path, source) for error in errors]


def _fault(error: t.Any, path: str, source: str) -> Fault:
    where = path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return Fault(path=where, value=error.instance, allowed=error.message, source=source)
