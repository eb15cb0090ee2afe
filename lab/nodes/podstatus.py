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


def waiting(pod: Json, why: Waiting, now: datetime.datetime) -> Json:
    """The patch of pods/status for a container that does not run."""
    status = copy.deepcopy(pod["status"])
    initial = any(c["name"] == why.container for c in pod["spec"].get("initContainers") or ())
    for entry in [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]:
        if entry["name"] == why.container:
            _hold(entry, why, now)
        elif initial and entry in status.get("containerStatuses", ()):
            _hold(entry, Waiting(container=entry["name"], reason="PodInitializing", message="", crashed=False), now)
    return _patch(status, ready=False, message=f"containers with unready status: [{why.container}]", now=now)


def running(pod: Json, now: datetime.datetime) -> Json:
    """The patch of pods/status once every container runs again."""
    status = copy.deepcopy(pod["status"])
    for entry in status.get("containerStatuses", ()):
        entry |= {"ready": True, "started": True, "state": {"running": {"startedAt": _text(now)}}}
    for entry in status.get("initContainerStatuses", ()):
        if "waiting" in entry.get("state", {}):
            entry |= {"ready": True, "state": {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": _text(now)}}}
    return _patch(status, ready=True, message="", now=now)


def unready(pod: Json, container: str, now: datetime.datetime) -> Json:
    """The patch of pods/status for a container that runs and whose readiness probe fails."""
    status = copy.deepcopy(pod["status"])
    for entry in status.get("containerStatuses", ()):
        if entry["name"] == container:
            entry |= {"ready": False, "started": True, "state": {"running": {"startedAt": _text(now)}}}
    return _patch(status, ready=False, message=f"containers with unready status: [{container}]", now=now)


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


def _patch(status: Json, *, ready: bool, message: str, now: datetime.datetime) -> Json:
    kept = [c for c in status.get("conditions") or () if c["type"] not in ("Ready", "ContainersReady")]
    both: list[Json] = [{"type": kind, "status": str(ready), "lastTransitionTime": _text(now)} for kind in ("Ready", "ContainersReady")]
    for each in both if not ready else ():
        each |= {"reason": "ContainersNotReady", "message": message}
    lists = {k: status[k] for k in ("containerStatuses", "initContainerStatuses") if k in status}
    return {"status": {"conditions": [*kept, *both], **lists}}


def _text(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
