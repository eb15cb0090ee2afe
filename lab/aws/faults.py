"""Faults that tests inject: data, matched against calls, capacity, nodes, EKS updates and add-ons."""

from __future__ import annotations

import threading
import typing as t
import uuid
from dataclasses import dataclass, field

from lab.aws.calls import Call
from lab.aws.errors import AwsError

ALWAYS = -1
_FIELDS: dict[str, frozenset[str]] = {
    "api": frozenset({"service", "operation", "code", "message", "status", "times", "after", "drop_reply", "principal"}),
    "capacity": frozenset({"instance_type", "zone", "capacity_type", "times"}),
    "addon": frozenset({"cluster", "addon", "status", "code", "message", "times", "after"}),
    "node": frozenset({"behaviour", "instance_type", "zone", "times"}),
    "hold": frozenset({"except_service", "principal", "after"}),
    "xid": frozenset({"node", "gpu", "xid"}),
    "update": frozenset({"cluster", "nodegroup", "type", "code", "message", "times", "after"}),
}


#: What an instance may do instead of becoming an ordinary node.
NODE_BEHAVIOURS = ("never_registers", "without_gpus")


@dataclass(slots=True)
class Fault:
    """One rule. ``after`` matches are let through first, then ``times`` are hit (ALWAYS: until it is deleted)."""

    kind: str
    rule: dict[str, t.Any]
    times: int
    after: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    hits: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def matches(self, **facts: str) -> bool:
        """Whether each of ``facts`` is what the rule names, or named by none."""
        return all(self.rule.get(name, value) == value for name, value in facts.items())

    def take(self) -> bool:
        """Count a match; whether the fault strikes."""
        if self.after > 0:
            self.after -= 1
            return False
        if self.times == 0:
            return False
        if self.times != ALWAYS:
            self.times -= 1
        self.hits += 1
        return True

    def describe(self) -> dict[str, t.Any]:
        return {"id": self.id, "kind": self.kind, "hits": self.hits, **self.rule, "times": self.times, "after": self.after}


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, rule: dict[str, t.Any]) -> Fault:
        """Add a rule; ``kind`` is one of _FIELDS (default api). Raises ValueError on an unknown kind, field or behaviour."""
        rule = dict(rule)
        kind = str(rule.pop("kind", "api"))
        if kind not in _FIELDS:
            raise ValueError(f"kind: {kind!r} is none of {', '.join(sorted(_FIELDS))}")
        unknown = rule.keys() - _FIELDS[kind]
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: not a field of a fault of kind {kind} ({', '.join(sorted(_FIELDS[kind]))})")
        if kind == "node" and rule.get("behaviour") not in NODE_BEHAVIOURS:
            raise ValueError(f"behaviour: {rule.get('behaviour')!r} is none of {', '.join(NODE_BEHAVIOURS)}")
        if kind == "xid":
            rule = {**rule, "gpu": int(rule.get("gpu", 0)), "xid": int(rule.get("xid", 0))}
            if rule["xid"] < 1 or rule["gpu"] < 0:
                raise ValueError("a fault of kind xid takes xid, a number from 1 on, and gpu, the GPU's index from 0 on")
        times = int(rule.pop("times", ALWAYS if kind in ("capacity", "addon", "hold", "node", "xid") else 1))
        fault = Fault(kind, rule, times, int(rule.pop("after", 0)))
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self, fault_id: str | None = None) -> None:
        """Drop one fault, or all."""
        with self._lock:
            gone = [fault for fault in self._faults if fault_id is None or fault.id == fault_id]
            self._faults = [fault for fault in self._faults if fault not in gone]
        for fault in gone:
            fault.over.set()

    def list(self) -> list[dict[str, t.Any]]:
        with self._lock:
            return [fault.describe() for fault in self._faults]

    def for_call(self, call: Call) -> Fault | None:
        """The API fault that strikes ``call``, if any."""
        return self._strike("api", service=call.service, operation=call.operation, principal=call.principal_arn)

    def hold(self, call: Call) -> None:
        """Keep a mutating call waiting as long as a fault of kind hold is there, and refuse it then: it is never carried out."""
        with self._lock:
            held = [fault for fault in self._faults if fault.kind == "hold" and fault.matches(principal=call.principal_arn)]
            held = [fault for fault in held if fault.rule.get("except_service") != call.service]
            holding = [fault for fault in held if call.mutating and fault.take()]
        for fault in holding:
            fault.over.wait()
            raise AwsError("ServiceUnavailable", "The lab held this call back.", 503)

    def for_update(self, cluster: str, nodegroup: str, update_type: str) -> Fault | None:
        """The fault that makes an EKS update fail, if any."""
        return self._strike("update", cluster=cluster, nodegroup=nodegroup, type=update_type)

    def for_addon(self, cluster: str, addon: str) -> Fault | None:
        """The fault that an add-on has as long as it is there, if any."""
        return self._strike("addon", cluster=cluster, addon=addon)

    def for_node(self, instance_type: str, zone: str) -> str | None:
        """What a new instance does instead of becoming an ordinary node, None when it becomes one."""
        fault = self._strike("node", instance_type=instance_type, zone=zone)
        return None if fault is None else str(fault.rule["behaviour"])

    def xids(self, node: str) -> tuple[tuple[str, int, int], ...]:
        """(id, GPU, XID) of each critical error that a GPU of the node has had."""
        with self._lock:
            found = [fault for fault in self._faults if fault.kind == "xid" and fault.matches(node=node)]
        return tuple((fault.id, fault.rule["gpu"], fault.rule["xid"]) for fault in found)

    def lacks_capacity(self, instance_type: str, zone: str, capacity_type: str) -> bool:
        """Whether EC2 has no such instances there now."""
        return self._strike("capacity", instance_type=instance_type, zone=zone, capacity_type=capacity_type) is not None

    def capacity_is_short(self, instance_type: str, zone: str, capacity_type: str) -> bool:
        """The same, asked without a launch: nothing is counted."""
        facts = {"instance_type": instance_type, "zone": zone, "capacity_type": capacity_type}
        with self._lock:
            return any(fault.kind == "capacity" and fault.times != 0 and fault.matches(**facts) for fault in self._faults)

    def _strike(self, kind: str, **facts: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.kind == kind and fault.matches(**facts) and fault.take():
                    return fault
        return None


def fault_error(fault: Fault) -> AwsError:
    """The error that an API fault answers with."""
    code = str(fault.rule.get("code", "InternalError"))
    default_status = 400 if "code" in fault.rule else 500
    return AwsError(code, str(fault.rule.get("message", "Injected by the lab.")), int(fault.rule.get("status", default_status)))
