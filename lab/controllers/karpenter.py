"""Karpenter for AWS, the real program, as its pod would run it.

Only what cannot be the pod's own is replaced: addresses, keys, the API server's address, and ports, since all controllers share one machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from lab import binaries
from lab.controllers import podspec
from lab.controllers.contracts import CannotStart, Context, Controller, Running
from lab.controllers.process import Process
from lab.supervisor import free_ports

_log = logging.getLogger(__name__)


class Karpenter(Controller):
    """lab/tools/karpenter, built when the first pod of it runs."""

    name = "karpenter"
    repository = "karpenter/controller"

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def start(self, context: Context) -> Running:
        try:
            program = binaries.karpenter(self._say)
        except binaries.BinaryUnavailable as error:
            raise CannotStart(str(error)) from error
        wanted = podspec.tag(context.container["image"])
        if wanted and wanted.removeprefix("v") != binaries.KARPENTER.version.removeprefix("v"):
            _log.warning("%s: image %s: the lab runs %s", context.cluster.name, context.container["image"], binaries.KARPENTER.version)
        metrics, probes = free_ports(2)
        environment = {
            **context.environment,
            **context.aws_environment(),
            "KUBECONFIG": str(context.kubeconfig),
            "METRICS_PORT": str(metrics),
            "HEALTH_PROBE_PORT": str(probes),
            "DISABLE_LEADER_ELECTION": "true",  # one process stands for all replicas
        }
        arguments = [word for word in context.command if word.startswith("-")]  # the image's entry point is the program
        child = context.supervisor.start(context.name, [str(program), *arguments], log=context.log, cwd=context.directory, env=environment)
        return Process(context.supervisor, child)
