"""Pure: what a kubelet refuses of a pod that asks a device plugin for several shares (internal/rm/rm.go, ValidateRequest)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lab.kubernetes.client import Json
from lab.nodes.sharing import PREFIX, Config, replicas

REASON = "UnexpectedAdmissionError"
_MPS_SEVERAL_SINCE = (0, 20)


def requests(pod: Json) -> Iterator[tuple[str, int]]:
    """(resource, number) of each container, since a plugin is asked container by container."""
    for container in (*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())):
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if name.startswith(PREFIX) and str(amount).isdigit():
                yield name, int(amount)


def refuses_several(config: Config, image: str, resource: str) -> bool:
    """Whether a plugin of this image refuses a request of several of the resource. Before 0.20.0 MPS always did."""
    sharing = config.sharing
    if sharing is None or replicas(config, resource.removesuffix(".shared")) < 2:
        return False
    version = re.search(r":v?(\d+)\.(\d+)", image.partition("@")[0].rpartition("/")[2])
    old = version is not None and (int(version[1]), int(version[2])) < _MPS_SEVERAL_SINCE
    return sharing.fail_requests or (sharing.strategy == "mps" and old)


def refusal(pod: Json, refusing: Mapping[str, bool]) -> str | None:
    """The message of the pod's status, None where it may run; ``refusing``: resource -> whether its plugin refuses several."""
    for resource, number in requests(pod):
        if number > 1 and refusing.get(resource):
            return (
                f"Pod was rejected: Allocate failed due to rpc error: code = Unknown desc = invalid allocation request for "
                f'"{resource}": invalid request: maximum request size for shared resources is 1; found {number}, which is unexpected'
            )
    return None
