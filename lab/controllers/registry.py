"""The controllers that the lab knows."""

from __future__ import annotations

from collections.abc import Callable

from lab.controllers.autoscaler.loop import ClusterAutoscaler
from lab.controllers.contracts import Controller
from lab.controllers.karpenter import Karpenter
from lab.controllers.termination_handler import TerminationHandler


def known(say: Callable[[str], None]) -> tuple[Controller, ...]:
    """One of each kind; ``say`` hears of programs that are being built."""
    return (Karpenter(say), ClusterAutoscaler(), TerminationHandler())
