"""Pure: the flags of cluster-autoscaler's own command line."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from lab.controllers.autoscaler import expander
from lab.controllers.autoscaler.model import Options

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
#: Durations that the command line has as a plain number of seconds.
_PLAIN_SECONDS = {"max_graceful_termination_sec"}
#: Real flags that change nothing that the model does.
_WITHOUT_EFFECT = {
    "address",
    "cloud-config",
    "cloud-provider",
    "cluster-name",
    "cores-total",
    "daemonset-eviction-for-empty-nodes",
    "daemonset-eviction-for-occupied-nodes",
    "emit-per-nodegroup-metrics",
    "enable-dynamic-resource-allocation",
    "estimator",
    "kube-client-burst",
    "kube-client-qps",
    "leader-elect",
    "leader-elect-lease-duration",
    "leader-elect-renew-deadline",
    "leader-elect-resource-name",
    "leader-elect-retry-period",
    "logtostderr",
    "max-bulk-soft-taint-count",
    "max-bulk-soft-taint-time",
    "memory-total",
    "node-delete-delay-after-taint",
    "record-duplicated-events",
    "skip-headers",
    "status-config-map-name",
    "stderrthreshold",
    "user-agent",
    "v",
    "vmodule",
    "write-status-configmap",
}


class FlagRefused(ValueError):
    """The program would end with this message."""


def parse(arguments: t.Sequence[str]) -> Options:
    """Options from a container's command and args, the program's own name left out; raises FlagRefused.

    Flags that cluster-autoscaler has and the model does not know are refused too: what they do would be missing without a word.
    """
    values: dict[str, list[str]] = {}
    for name, value in _pairs(arguments):
        values.setdefault(name, []).append(value)
    changes: dict[str, t.Any] = {
        "discovery": tuple(pair for text in values.pop("node-group-auto-discovery", []) for pair in _discovery(text)),
        "groups": tuple(_group(text) for text in values.pop("nodes", [])),
    }
    fields = {field.name.replace("_", "-"): field for field in dataclasses.fields(Options)}
    for name, texts in values.items():
        if name in _WITHOUT_EFFECT:
            continue
        if name not in fields or name in ("discovery", "groups"):
            raise FlagRefused(f"unknown flag: --{name} (not in the lab's model of cluster-autoscaler)")
        try:
            changes[fields[name].name] = _value(fields[name], texts)
        except ValueError as error:
            raise FlagRefused(f'invalid argument "{texts[-1]}" for "--{name}" flag: {error}') from error
    _check_expanders(changes.get("expander", ()))
    return Options(**changes)


def duration(text: str) -> float:
    """Seconds of a Go duration such as ``1h30m``; raises ValueError."""
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"time: invalid duration {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def boolean(text: str) -> bool:
    """Go's strconv.ParseBool; raises ValueError."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f"invalid syntax: {text!r}")


def _pairs(arguments: t.Sequence[str]) -> t.Iterator[tuple[str, str]]:
    """Flag and value; ``--flag value`` for those that are no booleans, ``--flag`` alone is true."""
    booleans = {field.name.replace("_", "-") for field in dataclasses.fields(Options) if field.type == "bool"} | _WITHOUT_EFFECT
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            raise FlagRefused(f"unexpected argument {argument!r}")
        name, separator, value = argument.lstrip("-").partition("=")
        if separator:
            yield name, value
        elif name in booleans or not rest:
            yield name, "true"
        else:
            yield name, rest.pop(0)


def _value(field: dataclasses.Field[t.Any], texts: list[str]) -> t.Any:
    kind = str(field.type)
    if field.name == "expander":
        return tuple(texts[-1].split(","))
    if kind.startswith("tuple"):
        return tuple(texts)
    if kind == "bool":
        return boolean(texts[-1])
    if kind == "int":
        return int(texts[-1])
    if kind == "float" and not _is_duration(field):
        return float(texts[-1])
    return duration(texts[-1]) if kind == "float" else texts[-1]


def _is_duration(field: dataclasses.Field[t.Any]) -> bool:
    number = field.name.endswith(("threshold", "ratio", "percentage")) or field.name in _PLAIN_SECONDS
    return not number


def _check_expanders(names: t.Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name not in expander.NAMES:
            raise FlagRefused(f"expander {name} not supported")
        if name in names[:index]:
            raise FlagRefused(f"expander {name} was specified multiple times, each expander must not be specified more than once")


def _discovery(text: str) -> t.Iterator[tuple[str, str]]:
    """``asg:tag=KEY,KEY=VALUE``: tag keys with their values, empty where any will do."""
    kind, separator, parameter = text.partition(":")
    if not separator:
        raise FlagRefused(f"invalid node group auto discovery spec specified via --node-group-auto-discovery: {text}")
    if kind != "asg":
        raise FlagRefused(f"unsupported discoverer specified: {kind}")
    key, separator, tags = parameter.partition("=")
    if not separator:
        raise FlagRefused(f"invalid key=value pair [{key}]")
    if key != "tag":
        raise FlagRefused(f'unsupported parameter key "{key}" is specified for discoverer "asg". The only supported key is "tag"')
    if not tags:
        raise FlagRefused("tag value not supplied")
    for tag in tags.split(","):
        name, _separator, value = tag.partition("=")
        yield name, value


def _group(text: str) -> tuple[str, int, int]:
    """``MIN:MAX:NAME`` of ``--nodes``."""
    parts = text.split(":", 2)
    if len(parts) != 3 or not (parts[0].isdigit() and parts[1].isdigit() and parts[2]):
        raise FlagRefused(f"failed to parse node group spec: {text}")
    return parts[2], int(parts[0]), int(parts[1])
