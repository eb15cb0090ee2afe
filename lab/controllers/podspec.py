"""What a pod's container is given: its command and its environment, as kubelet resolves them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal

from lab.kubernetes.client import Json

#: (kind, name) -> data of a ConfigMap or Secret of the pod's namespace as text, None when there is none
Data = Callable[[str, str], Mapping[str, str] | None]

_REFERENCE = re.compile(r"\$(\$)?\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_QUANTITY = re.compile(r"([0-9.]+)([a-zA-Z]*)")
_UNITS: dict[str, Decimal] = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(1000),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("MGT", start=2)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGT", start=1)},
}


class Unresolved(RuntimeError):
    """A variable's source is not there: kubelet would hold the container in CreateContainerConfigError."""


def container_of(pod: Json, repository: str) -> Json | None:
    """The container whose image's repository is ``repository`` or ends with ``/repository``."""
    for container in pod["spec"].get("containers") or ():
        if f"/{_repository(container['image'])}".endswith(f"/{repository}"):
            found: Json = container
            return found
    return None


def _repository(image: str) -> str:
    """The image without digest and tag; a colon before the last slash is a port."""
    path, slash, last = image.partition("@")[0].rpartition("/")
    return path + slash + last.partition(":")[0]


def tag(image: str) -> str:
    """The image's tag, empty when it has none."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def environment(pod: Json, container: Json, data: Data) -> dict[str, str]:
    """envFrom, then env in its order; raises Unresolved."""
    result: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if reference := source.get(key):
                found = _data(data, kind, reference) or {}
                result |= {source.get("prefix", "") + name: value for name, value in found.items()}
    for entry in container.get("env") or ():
        value = _value(pod, container, entry["valueFrom"], data) if entry.get("valueFrom") else expand(entry.get("value") or "", result)
        if value is not None:
            result[entry["name"]] = value
    return result


def command(container: Json, variables: Mapping[str, str]) -> tuple[str, ...]:
    """Command and arguments with $(NAME) filled in; what is not known stays as it is."""
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    return tuple(expand(word, variables) for word in words)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """$(NAME) by its value where it has one; $$(NAME) is the literal $(NAME) (API reference, Container.args)."""
    return _REFERENCE.sub(lambda found: found[0][1:] if found[1] else variables.get(found[2], found[0]), text)


def _value(pod: Json, container: Json, source: Json, data: Data) -> str | None:
    if reference := source.get("fieldRef"):
        return _field(pod, reference["fieldPath"])
    if reference := source.get("resourceFieldRef"):
        return _resource(pod, container, reference)
    for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if reference := source.get(key):
            found = _data(data, kind, reference)
            if found is not None and reference["key"] in found:
                return found[reference["key"]]
            if reference.get("optional"):
                return None
            raise Unresolved(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
    raise Unresolved(f"the lab does not know the source of a variable: {sorted(source)}")


def _data(data: Data, kind: str, reference: Json) -> Mapping[str, str] | None:
    found = data(kind, reference["name"])
    if found is None and not reference.get("optional"):
        raise Unresolved(f'{kind.lower()} "{reference["name"]}" not found')
    return found


def _field(pod: Json, path: str) -> str:
    """A field of the downward API (API reference, EnvVarSource.fieldRef)."""
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    value: object = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def _resource(pod: Json, container: Json, reference: Json) -> str:
    """requests or limits in units of the divisor, rounded up. A resource that is not set is the node's in Kubernetes, 0 here."""
    name = reference.get("containerName") or container["name"]
    of = next((c for c in pod["spec"]["containers"] if c["name"] == name), container)
    kind, _dot, resource = reference["resource"].partition(".")
    amount = quantity(((of.get("resources") or {}).get(kind) or {}).get(resource, "0"))
    divisor = quantity(reference.get("divisor") or "1") or Decimal(1)
    return str((amount / divisor).to_integral_value(ROUND_CEILING))


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity as a number; raises Unresolved for what is none."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None or found[2] not in _UNITS:
        raise Unresolved(f"{text!r} is no quantity")
    return Decimal(found[1]) * _UNITS[found[2]]
