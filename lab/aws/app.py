"""The AWS server of the lab: starts and stops everything in this package."""

from __future__ import annotations

import logging
import os
import threading
import typing as t
from pathlib import Path

# moto reads these when it is imported. Stock images are left out: they cost seconds and memory, and the lab has its own.
os.environ.update(
    MOTO_IAM_LOAD_MANAGED_POLICIES="true", MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION="true", MOTO_EC2_LOAD_DEFAULT_AMIS="false"
)

import boto3
from botocore.config import Config
from moto.ec2.models import ec2_backends
from werkzeug.serving import BaseWSGIServer, make_server

from lab.aws import autoscaling_loop, identities, moto_fixes
from lab.aws.consistency import Consistency
from lab.aws.control import ControlApplication
from lab.aws.eks.application import EksApplication
from lab.aws.eks.context import Durations, Environment
from lab.aws.eks.state import EksState
from lab.aws.events import Interruptions
from lab.aws.faults import Faults
from lab.aws.gateway import ACCOUNT_HEADER, INTERNAL_HEADER, Gateway
from lab.aws.pricing import PricingService
from lab.aws.quotas import Quotas, QuotaService
from lab.aws.requestlog import RequestLog
from lab.clock import Clock
from lab.contracts import ClusterRef, ControlPlanes, Identities

TICK_SECONDS = 0.2
_log = logging.getLogger(__name__)


class AwsServer:
    """One simulated AWS. moto's state belongs to the process: one server at a time in each."""

    def __init__(
        self, *, clock: Clock, control_planes: ControlPlanes, log_path: Path, region: str = "us-west-2", durations: Durations | None = None
    ) -> None:
        self.clock = clock
        self.region = region
        self.account = identities.ACCOUNT
        self.admin_credentials = (identities.ADMIN_ACCESS_KEY_ID, identities.ADMIN_SECRET_ACCESS_KEY)
        self.faults = Faults()
        self.consistency = Consistency(clock)
        self.quotas = Quotas()
        self._interruptions = Interruptions()
        self._clients: dict[tuple[str, str, str], t.Any] = {}
        self._clients_lock = threading.Lock()
        self._session = boto3.session.Session(*self.admin_credentials, region_name=region)
        state = EksState()
        self._eks = EksApplication(
            Environment(
                state=state,
                clock=clock,
                control_planes=control_planes,
                faults=self.faults,
                clients=self.internal_client,
                durations=durations or Durations(),
            )
        )
        self.identities: Identities = identities.AccountIdentities(state, self.consistency)
        control = ControlApplication(
            clock=clock,
            faults=self.faults,
            consistency=self.consistency,
            quotas=self.quotas,
            clusters=self.clusters,
            reset=self.reset,
            announce=self._announce,
        )
        self._gateway = Gateway(
            eks=self._eks,
            services={"servicequotas": QuotaService(self.quotas).handle, "pricing": PricingService(region).handle},
            faults=self.faults,
            consistency=self.consistency,
            log=RequestLog(log_path),
            control=control,
        )
        self._server: BaseWSGIServer | None = None
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()

    @property
    def endpoint(self) -> str:
        """The URL that clients use; raises RuntimeError before start."""
        if self._server is None:
            raise RuntimeError("the AWS server is not running")
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self, port: int = 0) -> str:
        """Listen on 127.0.0.1 and return the endpoint; raises OSError when the port is taken."""
        moto_fixes.install(moto_fixes.Surroundings(self.clock, self.faults, self.quotas, self._eks.environment.state))
        self._empty_account()
        # Requests are in our own log.
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._server = make_server("127.0.0.1", port, self._gateway, threaded=True)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="aws", daemon=True),
            threading.Thread(target=self._run_ticks, name="aws-ticks", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self.endpoint

    def stop(self) -> None:
        """Stop listening. Control planes are their owner's to stop."""
        self._stopping.set()
        if self._server is not None:
            self._threads[1].join()
            self._server.shutdown()
            self._server.server_close()
            self._threads[0].join()

    def clusters(self) -> list[ClusterRef]:
        """Clusters that are active or being created."""
        return self._eks.active_clusters()

    def reset(self) -> None:
        """Drop all state of all accounts, stop all control planes, remove all faults; the administrator is there again."""
        self._eks.reset()
        self._gateway.reset()
        self.faults.clear()
        self._interruptions.clear()
        self.consistency.clear()
        self.quotas.clear()
        with self._gateway.moto_lock:
            self._empty_account()

    def _empty_account(self) -> None:
        moto_fixes.forget_everything()
        identities.create_admin(self.account)
        ec2_backends[self.account][self.region].describe_vpcs()  # the default VPC and the images, before anybody waits for them

    def _announce(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        with self._gateway.moto_lock:
            return self._interruptions.announce(ec2_backends, request)

    def tick(self) -> None:
        """Bring what nobody asks about to what the clock says; a thread does it all the time."""
        self._eks.tick()
        with self._gateway.moto_lock:
            autoscaling_loop.reconcile_groups()
            self._interruptions.settle()

    def _run_ticks(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            try:
                self.tick()
            except Exception:  # noqa: BLE001  time has to go on; what went wrong is in the log
                _log.exception("a tick failed; the next one tries again")

    def internal_client(self, service: str, account: str, region: str) -> t.Any:
        """A client of this server whose calls are not logged, not checked, and meant for ``account``."""
        key = (service, account, region)
        with self._clients_lock:
            if key not in self._clients:
                config = Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=60, inject_host_prefix=False)
                client = t.cast(t.Any, self._session).client(service, region_name=region, endpoint_url=self.endpoint, config=config)
                headers = {INTERNAL_HEADER: self._gateway.internal_token, ACCOUNT_HEADER: account}

                def mark(request: t.Any, **_: t.Any) -> None:
                    for name, value in headers.items():
                        request.headers[name] = value

                client.meta.events.register("before-sign.*", mark)
                self._clients[key] = client
            return self._clients[key]
