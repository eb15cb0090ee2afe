# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our objects beside those of NVIDIA's chart of the same version, given the same configuration: where they differ, strategy by strategy."""

from __future__ import annotations

import json
import re
import subprocess
import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DEFAULT_NAMESPACE
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_manifests import common_objects, objects

from tests.oracle.configurations import Options, model

Object = Mapping[str, t.Any]
Facts = dict[tuple[str, str], str]

ABSENT = "–"
RELEASE = "gpuops"
NAME = "pool"
RIGHTS = "rights"
# Strategy -> options of our configuration, and values that the chart needs beside the same configuration file.
STRATEGIES: Mapping[str, tuple[Options, Mapping[str, t.Any]]] = {
    "none": ({}, {}),
    "time_slicing": ({"sharing": {"strategy": "time_slicing", "replicas": 10}}, {}),
    "mps": ({"sharing": {"strategy": "mps", "replicas": 5}}, {}),
    "mig single": ({"mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}, {}),
    "mig mixed": ({"mig": {"strategy": "mixed", "layout": {"1g.5gb": 7}}}, {}),
    "volume-mounts": ({"flags": {"plugin": {"deviceListStrategy": ["volume-mounts"]}}}, {}),
    "cdi-cri": ({"flags": {"plugin": {"deviceListStrategy": ["cdi-cri"]}}}, {"nvidiaDriverRoot": "/"}),
    "passDeviceSpecs": ({"flags": {"plugin": {"passDeviceSpecs": True}}}, {"compatWithCPUManager": True}),
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that the chart and we have in different ways, under these strategies."""

    component: str
    what: str
    chart: str
    ours: str
    strategies: tuple[str, ...]


def differences(helm: Path, chart: Path, directory: Path) -> list[Difference]:
    """All of them, by component, then by what differs."""
    pairs = {
        strategy: (facts(chart_objects(helm, chart, directory, options, values)), facts(our_objects(options)))
        for strategy, (options, values) in STRATEGIES.items()
    }
    return compare(pairs)


def compare(pairs: Mapping[str, tuple[Facts, Facts]]) -> list[Difference]:
    """Strategy -> (the chart's facts, ours), as what differs."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for strategy, (theirs, ours) in pairs.items():
        for key in {**theirs, **ours}:
            one, other = theirs.get(key, ABSENT), ours.get(key, ABSENT)
            if one != other and not _part_of_an_absent_one(key, theirs, ours):
                found.setdefault((*key, one, other), []).append(strategy)
    rows = [
        Difference(component=component, what=what, chart=one, ours=other, strategies=tuple(strategies))
        for (component, what, one, other), strategies in found.items()
    ]
    return sorted(rows, key=lambda row: (row.component, row.what, [list(pairs).index(strategy) for strategy in row.strategies]))


def _part_of_an_absent_one(key: tuple[str, str], theirs: Facts, ours: Facts) -> bool:
    """Whether this belongs to a container or DaemonSet that one side lacks: that alone is the difference then."""
    component, what = key
    whole = [(component, "DaemonSet")] + [(component, what.partition(": ")[0])] * (": " in what)
    return any((name in theirs) != (name in ours) for name in whole if name != key)


def our_objects(options: Options) -> list[Object]:
    wanted = model([{"name": NAME, **options}])
    return [*common_objects(wanted, feature_discovery=True), *objects(wanted, wanted.configurations[0], feature_discovery=True)]


def chart_objects(helm: Path, chart: Path, directory: Path, options: Options, values: Mapping[str, t.Any]) -> list[Object]:
    """What ``helm template`` makes of the chart with the same configuration file; without node feature discovery, which is not ours either."""
    file = model([{"name": NAME, **options}]).configurations[0].file
    path = directory / "values.yaml"
    given = {"gfd": {"enabled": True}, "nfd": {"enabled": False}, "config": {"map": {NAME: file}, "default": NAME}, **values}
    path.write_text(json.dumps(given))
    command = [str(helm), "template", RELEASE, str(chart), "--namespace", DEFAULT_NAMESPACE, "--values", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def facts(found: Iterable[Object]) -> Facts:
    """(component, what) -> how it is, as text without names that differ by themselves."""
    every: Facts = {}
    for one in found:
        every.update(_daemon_set(one) if one["kind"] == "DaemonSet" else _other(one))
    return every


def _other(obj: Object) -> Iterator[tuple[tuple[str, str], str]]:
    if obj["kind"] == "ConfigMap":
        yield ("configuration", "key of the ConfigMap"), ", ".join(obj["data"])
        return
    yield (RIGHTS, obj["kind"]), _rules(obj["rules"]) if "rules" in obj else "present"


def _daemon_set(obj: Object) -> Iterator[tuple[tuple[str, str], str]]:
    spec = obj["spec"]["template"]["spec"]
    component = _component(spec)
    yield (component, "DaemonSet"), "present"
    yield (component, "selector"), ", ".join(sorted(obj["spec"]["selector"]["matchLabels"]))
    yield (component, "update strategy"), _text(obj["spec"]["updateStrategy"])
    yield (component, "annotations of the pods"), ", ".join(sorted(obj["spec"]["template"]["metadata"].get("annotations", {})))
    for key, value in spec.items():
        if key == "affinity":
            yield from (((component, kind), _affinity({kind: block})) for kind, block in value.items())
        elif key not in ("containers", "initContainers", "volumes"):
            yield (component, key), ("an account" if key == "serviceAccountName" else _text(value))
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounted = set()
    for kind, containers in (("container", spec["containers"]), ("init container", spec.get("initContainers", []))):
        for container in containers:
            mounted |= {mount["name"] for mount in container.get("volumeMounts", [])}
            for what, how in _container(container, volumes):
                yield (component, f"{kind} {container['name']}{what}"), how
    for name in volumes.keys() - mounted:
        yield (component, f"volume that nothing mounts: {name}"), _source(volumes[name])


def _component(spec: Object) -> str:
    """By the program that is not config-manager."""
    [program] = [one["command"][0] for one in spec["containers"] if one["command"] != ["config-manager"]]
    return {"nvidia-device-plugin": "device plugin", "gpu-feature-discovery": "GPU feature discovery"}.get(program, "MPS control daemon")


def _container(container: Object, volumes: Mapping[str, Object]) -> Iterator[tuple[str, str]]:
    yield "", "present"
    for key, value in container.items():
        if key == "env":
            yield from ((f": env {item['name']}", _value(item)) for item in value)
        elif key == "volumeMounts":
            yield from ((f": mount {item['mountPath']}", _mount(item, volumes)) for item in value)
        elif key != "name":
            yield f": {key}", _text(value)


def _value(item: Object) -> str:
    field = item.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
    return f"of the pod: {field}" if field else str(item["value"])


def _mount(mount: Object, volumes: Mapping[str, Object]) -> str:
    more = ("one file" if "subPath" in mount else "", "read only" if mount.get("readOnly") else "", mount.get("mountPropagation", ""))
    return ", ".join(part for part in (_source(volumes[mount["name"]]), *more) if part)


def _source(volume: Object) -> str:
    if "configMap" in volume:
        return "the ConfigMap"
    if "emptyDir" in volume:
        return "an empty directory"
    host = volume["hostPath"]
    return f"{host['path']} of the host" + (f" ({host['type']})" if host.get("type") else "")


def _text(value: t.Any) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def _affinity(affinity: Object) -> str:
    """The affinity in words; one of another kind than those that are met would be an error here."""
    [(kind, block)] = affinity.items()
    wanted = block["requiredDuringSchedulingIgnoredDuringExecution"]
    if kind == "nodeAffinity":
        return " or ".join(_expressions(term["matchExpressions"]) for term in wanted["nodeSelectorTerms"])
    [term] = wanted
    labels = [{"key": key, "operator": "In", "values": [value]} for key, value in term["labelSelector"]["matchLabels"].items()]
    return f"{kind}: {_expressions([*labels, *term['labelSelector']['matchExpressions']])}"


def _expressions(expressions: Iterable[Object]) -> str:
    return " and ".join(f"{one['key']} {one['operator']} {', '.join(one.get('values', []))}".strip() for one in expressions)


def _rules(rules: Iterable[Object]) -> str:
    return "; ".join(f"{', '.join(rule['resources'])}: {', '.join(rule['verbs'])}" for rule in rules)


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why we do it in another way than the chart. ``what`` is a pattern of the differences that it is the reason of."""

    what: str
    why: str
    components: Sequence[str] = ()  # all where it is empty

    def applies(self, difference: Difference) -> bool:
        return re.fullmatch(self.what, difference.what) is not None and (not self.components or difference.component in self.components)
