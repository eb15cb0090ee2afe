"""Pure: pod statuses as a kubelet would write them, for containers that KWOK took to be running."""

from __future__ import annotations

import copy
import datetime
from dataclasses import dataclass

from lab.kubernetes.client import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a container does not run. ``crashed``: it ended with exit status 1 and this message; else it was never started."""

    container: str
    reason: str
    message: str
    crashed: bool


def condition(holder: Json, kind: str) -> str:
    """The status of a condition, ``Unknown`` when there is none."""
    conditions = holder.get("status", {}).get("conditions") or ()
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "Unknown")


def started(pod: Json, address: str, now: datetime.datetime) -> Json:
    """The pod as it is once kubelet has taken it, with nothing in its way: init containers are over, the others run and are ready."""
    running = {"running": {"startedAt": _text(now)}}
    over = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": _text(now), "finishedAt": _text(now)}}
    base: Json = {"restartCount": 0, "ready": True, "imageID": "", "lastState": {}}
    first = pod["spec"].get("initContainers") or ()
    addresses = {f"{kind}IP": address for kind in ("host", "pod")} | {f"{kind}IPs": [{"ip": address}] for kind in ("host", "pod")}
    status = {
        "phase": "Running",
        "startTime": _text(now),
        **addresses,
        "conditions": [
            *(pod["status"].get("conditions") or ()),
            {"type": "Initialized", "status": "True", "lastTransitionTime": _text(now)},
        ],
        "containerStatuses": [_entry(c, {**base, "started": True, "state": running}) for c in pod["spec"]["containers"]],
        "initContainerStatuses": [_entry(c, {**base, "state": running if c.get("restartPolicy") == "Always" else over}) for c in first],
    }
    return {**pod, "status": {**pod["status"], **status}}


def waiting(pod: Json, why: Waiting, now: datetime.datetime) -> Json:
    """The patch of pods/status for a container that does not run."""
    status = copy.deepcopy(pod["status"])
    initial = any(c["name"] == why.container for c in pod["spec"].get("initContainers") or ())
    for entry in [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]:
        if entry["name"] == why.container:
            _hold(entry, why, now)
        elif initial and entry in status.get("containerStatuses", ()):
            _hold(entry, Waiting(container=entry["name"], reason="PodInitializing", message="", crashed=False), now)
    status["phase"] = "Running" if why.crashed and not initial else "Pending"
    return _patch(status, now)


def running(pod: Json, now: datetime.datetime, container: str = "") -> Json:
    """The patch of pods/status once this container, or every one, runs again."""
    status = copy.deepcopy(pod["status"])
    for entry in status.get("containerStatuses", ()):
        if container in ("", entry["name"]) or entry["state"].get("waiting", {}).get("reason") == "PodInitializing":
            entry |= {"ready": True, "started": True, "state": {"running": {"startedAt": _text(now)}}}
    for entry in status.get("initContainerStatuses", ()):
        if "waiting" in entry.get("state", {}):
            entry |= {"ready": True, "state": {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": _text(now)}}}
    return _patch({**status, "phase": "Running"}, now)


def unready(pod: Json, container: str, now: datetime.datetime) -> Json:
    """The patch of pods/status for a container that runs and whose readiness probe fails."""
    patch = running(pod, now, container)
    for entry in patch["status"].get("containerStatuses", ()):
        if entry["name"] == container:
            entry["ready"] = False
    return _patch(patch["status"], now)


def rejected(reason: str, message: str) -> Json:
    """The patch of pods/status for a pod that the kubelet did not admit (kubelet.go, rejectPod): none of its containers has run."""
    status = {"phase": "Failed", "reason": reason, "message": message, "containerStatuses": None, "initContainerStatuses": None}
    return {"status": {**status, "conditions": None}}


def _hold(entry: Json, why: Waiting, now: datetime.datetime) -> None:
    back_off = f"back-off 10s restarting failed container={why.container}: {why.message}" if why.crashed else why.message
    entry |= {"ready": False, "started": False, "state": {"waiting": {"reason": why.reason, "message": back_off}}}
    if why.crashed:
        ended = {"exitCode": 1, "reason": "Error", "message": why.message, "finishedAt": _text(now)}
        entry |= {"restartCount": entry.get("restartCount", 0) + 1, "lastState": {"terminated": ended}}


def _entry(container: Json, state: Json) -> Json:
    return {"name": container["name"], "image": container.get("image", ""), **copy.deepcopy(state)}


def _patch(status: Json, now: datetime.datetime) -> Json:
    """All of the status that kubelet writes, Ready where all containers are."""
    not_ready = [entry["name"] for entry in status.get("containerStatuses", ()) if not entry["ready"]]
    kept = [c for c in status.get("conditions") or () if c["type"] not in ("Ready", "ContainersReady")]
    both: list[Json] = [
        {"type": kind, "status": str(not not_ready), "lastTransitionTime": _text(now)} for kind in ("Ready", "ContainersReady")
    ]
    for each in both if not_ready else ():
        each |= {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(not_ready)}]"}
    return {"status": {**status, "conditions": [*kept, *both]}}


def _text(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
