"""The lab's daemon: wires clock, simulated AWS, control planes, token webhook and node loops."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import signal
import threading
import time
import typing as t
from pathlib import Path

from lab import binaries
from lab.aws.app import AwsServer
from lab.clock import Clock
from lab.contracts import ClusterRef
from lab.controllers import registry
from lab.controllers.manager import Controllers, Lent
from lab.kubernetes.controlplane import ControlPlane, LocalControlPlanes
from lab.kubernetes.webhook import TokenWebhook
from lab.nodes.health import Event
from lab.nodes.manager import NodeLoops
from lab.state import DAEMON, State
from lab.supervisor import Supervisor

VERSION = 1  # of lab.json
_log = logging.getLogger("lab")


class Lab:
    """One running lab."""

    def __init__(self, state: State, clock: Clock) -> None:
        self.state, self.clock = state, clock
        self.supervisor = Supervisor(state.records)
        programs = functools.cache(functools.partial(binaries.control_plane, _log.info))
        self.nodes = NodeLoops(self._client, clock, self._node_fault, self._gpu_events)
        lent = Lent(self._client, lambda: self.aws.endpoint, self.supervisor, clock)
        self.controllers = Controllers(registry.known(_log.info), lent)
        self.planes = LocalControlPlanes(state, self.supervisor, programs, self._webhook_url, self._cluster_ready, self._cluster_gone)
        self.aws = AwsServer(clock=clock, control_planes=self.planes, log_path=state.request_log)
        self.webhook: TokenWebhook

    def start(self) -> None:
        """Start everything, telling ``up`` of each thing; lab.json comes last."""
        begin = time.monotonic()
        self.aws.start()
        self._tell("simulated AWS", self.aws.endpoint, begin)
        begin = time.monotonic()
        self.webhook = TokenWebhook(self.aws.identities, self.planes.kube, self.aws.endpoint)
        self.webhook.start()
        self._tell("token webhook", "TokenReview for every cluster", begin)
        key, secret = self.aws.admin_credentials
        self.state.write_about(
            {
                "endpoint": self.aws.endpoint,
                "region": self.aws.region,
                "account": self.aws.account,
                "access_key_id": key,
                "secret_access_key": secret,
                "pid": os.getpid(),
                "state_dir": str(self.state.root),
                "version": VERSION,
                "helm": str(binaries.helm(_log.info)),
                "charts": {name: str(path) for name, path in binaries.charts(_log.info).items()},
            }
        )

    def stop(self) -> None:
        """In order: clusters (their loops first), webhook, AWS."""
        self.state.about.unlink(missing_ok=True)
        self.planes.stop_all()
        self.supervisor.stop_all()
        self.webhook.stop()
        self.aws.stop()

    def _cluster_ready(self, plane: ControlPlane) -> None:
        self.nodes.start(plane)
        self.controllers.start(plane)

    def _cluster_gone(self, plane: ControlPlane) -> None:
        self.controllers.stop(plane)
        self.nodes.stop(plane)

    def _webhook_url(self, cluster: ClusterRef) -> str:
        return self.webhook.url(cluster)

    def _node_fault(self, instance_type: str, zone: str) -> str | None:
        return self.aws.faults.for_node(instance_type, zone)

    def _gpu_events(self, node: str) -> list[Event]:
        return [Event(*found) for found in self.aws.faults.xids(node)]

    def _client(self, service: str, account: str, region: str) -> t.Any:
        return self.aws.internal_client(service, account, region)

    def _tell(self, what: str, detail: str, begin: float) -> None:
        line = f"{what} ({detail}) in {time.monotonic() - begin:.1f} s"
        _log.info("started %s", line)
        with self.state.startup_log.open("a") as stream:
            stream.write(f"{line}\n")


def main() -> None:
    """Run until SIGTERM or SIGINT. ``--parent`` is a pipe: if it closes without a word, ``up`` was killed, and the lab ends too."""
    parser = argparse.ArgumentParser(prog="python -m lab.server", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--factor", type=float, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    state = State(arguments.state)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    threading.Thread(target=_watch_parent, args=(arguments.parent, stopping), daemon=True).start()
    state.records.add(DAEMON, os.getpid())
    lab = Lab(state, Clock(arguments.factor))
    lab.start()
    stopping.wait()
    _log.info("stopping")
    lab.stop()
    state.records.remove(DAEMON)


def _watch_parent(pipe: int, stopping: threading.Event) -> None:
    if os.read(pipe, 1) == b"":
        _log.error("`up` ended before the lab was ready")
        stopping.set()
    os.close(pipe)


if __name__ == "__main__":
    main()
