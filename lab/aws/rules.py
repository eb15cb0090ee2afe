"""What AWS refuses and moto does not: one small function for each operation, asked before the call reaches moto."""

from __future__ import annotations

import typing as t

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.kms.models import kms_backends
from moto.logs.models import logs_backends
from moto.ssm.models import ssm_backends

from lab.aws.calls import Call

# A rule looks at moto's state of the account and region and at the call's parameters, and raises AwsError.
Rule = t.Callable[[t.Any, dict[str, t.Any], Call], None]
Settle = t.Callable[[t.Any], None]
_RULES: dict[tuple[str, str], Rule] = {}
_SETTLE: list[Settle] = []
_BACKENDS: dict[str, t.Any] = {
    "autoscaling": autoscaling_backends,
    "ec2": ec2_backends,
    "kms": kms_backends,
    "logs": logs_backends,
    "ssm": ssm_backends,
}


def rule(service: str, operation: str) -> t.Callable[[Rule], Rule]:
    """Register the function as the rule of an operation."""

    def register(function: Rule) -> Rule:
        _RULES[(service, operation)] = function
        return function

    return register


def settles(function: Settle) -> Settle:
    """Register a function that brings a region's EC2 to what the clock says; it runs before every call to EC2."""
    _SETTLE.append(function)
    return function


def check(call: Call) -> None:
    """Raises AwsError when AWS would refuse ``call`` and moto would not. The caller keeps moto to itself."""
    if call.service == "ec2":
        for settle in _SETTLE:
            settle(ec2_backends[call.account][call.region])
    found = _RULES.get((call.service, call.operation))
    if found is not None and not call.dry_run:
        found(_BACKENDS[call.service][call.account][call.region], call.params, call)
