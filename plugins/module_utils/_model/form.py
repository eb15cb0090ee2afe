# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Faults of form: values that are wrong whatever the account holds. Walks an argument specification. Pure."""

from __future__ import annotations

import difflib
import typing as t

from ansible.module_utils.common.validation import (
    check_type_bool,
    check_type_dict,
    check_type_float,
    check_type_int,
    check_type_list,
    check_type_str,
)
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault

Spec = t.Mapping[str, t.Mapping[str, t.Any]]

_CONVERTERS: dict[str, t.Callable[[t.Any], t.Any]] = {
    "bool": check_type_bool,
    "dict": check_type_dict,
    "float": check_type_float,
    "int": check_type_int,
    "list": check_type_list,
    "path": check_type_str,
    "str": check_type_str,
}
_WORDS = {"bool": "true or false", "dict": "a dictionary", "float": "a number", "int": "an integer", "list": "a list", "str": "a string"}
SOURCE = "the collection's options"


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def form_faults(spec: Spec, values: t.Mapping[str, t.Any], *, path: str = "", source: str = SOURCE) -> list[Fault]:
    """Every unknown key, missing key, wrong type and wrong choice below ``path``, in the order of the values."""
    faults = [fault for name in values if (fault := _unknown(spec, str(name), path, source))]
    for name, option in spec.items():
        given = _given(name, option, values)
        where = join(path, given or name)
        if given is None or values[given] is None:
            if option.get("required"):
                faults.append(Fault(path=where, value=None, allowed=f"required: {_describe(option)}", source=source))
            continue
        found = _value_faults(option, values[given], where, source)
        faults.extend(fault.masked() for fault in found) if option.get("no_log") else faults.extend(found)
    return faults


def _given(name: str, option: t.Mapping[str, t.Any], values: t.Mapping[str, t.Any]) -> str | None:
    return next((key for key in (name, *option.get("aliases", ())) if key in values), None)


def _unknown(spec: Spec, name: str, path: str, source: str) -> Fault | None:
    known = [key for option in spec for key in (option, *spec[option].get("aliases", ()))]
    if name in known or name.startswith("_ansible_"):
        return None
    near = difflib.get_close_matches(name, known, n=1)
    allowed = f"no such key; did you mean {near[0]!r}?" if near else f"no such key; known are {', '.join(sorted(spec))}"
    return Fault(path=join(path, name), value=name, allowed=allowed, source=source)


def _describe(option: t.Mapping[str, t.Any]) -> str:
    if option.get("choices"):
        return "one of " + ", ".join(str(choice) for choice in option["choices"])
    if option.get("type") == "list" and option.get("elements"):
        return f"a list, each element {_WORDS.get(option['elements'], option['elements'])}"
    return _WORDS.get(option.get("type", "str"), str(option.get("type")))


def _convert(kind: str, value: t.Any) -> t.Any:
    """The value as Ansible would convert it; TypeError or ValueError where it would refuse."""
    if kind == "str" and isinstance(value, (dict, list)):
        raise TypeError(f"{type(value).__name__} is not a string")
    if kind == "int" and isinstance(value, bool):
        raise TypeError("a boolean is not an integer")
    converter = _CONVERTERS.get(kind)
    return converter(value) if converter else value


def _value_faults(option: t.Mapping[str, t.Any], value: t.Any, where: str, source: str) -> list[Fault]:
    kind = option.get("type", "str")
    fault = Fault(path=where, value=value, allowed=_describe(option), source=source)
    try:
        converted = _convert(kind, value)
    except (TypeError, ValueError):
        return [fault]
    if kind == "list":
        return _element_faults(option, converted, where, source)
    if kind == "dict" and option.get("options") is not None:
        return form_faults(option["options"], converted, path=where, source=source)
    if option.get("choices") and converted not in option["choices"]:
        return [fault]
    return []


def _element_faults(option: t.Mapping[str, t.Any], values: list[t.Any], where: str, source: str) -> list[Fault]:
    element = {key: option[key] for key in ("choices", "options") if key in option}
    element["type"] = option.get("elements", "raw")
    return [fault for index, value in enumerate(values) for fault in _value_faults(element, value, f"{where}[{index}]", source)]
