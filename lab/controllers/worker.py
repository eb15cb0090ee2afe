"""A controller that is a thread of the daemon: the models, which have no program of their own."""

from __future__ import annotations

import abc
import logging
import threading

import requests
from botocore.exceptions import BotoCoreError, ClientError

from lab.controllers.contracts import Context, Running
from lab.kubernetes.client import ApiError, Json

JOIN_SECONDS = 5.0


class Worker(abc.ABC):
    """lab.controllers.contracts.Running that calls ``step`` again and again, and writes its own log file."""

    def __init__(self, context: Context, every: float) -> None:
        self.context, self._every = context, every
        self._handler = logging.FileHandler(context.log)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.log = logging.Logger(context.name, logging.INFO)  # not among the daemon's: this log is the pod's
        self.log.addHandler(self._handler)
        self._stopping = threading.Event()
        self._last_error = ""
        self._end: str | None = None
        self._thread = threading.Thread(target=self._run, name=context.name, daemon=True)

    @abc.abstractmethod
    def step(self) -> None:
        """One look at everything. Refusals of AWS and Kubernetes are logged and the next step tries again."""

    def begin(self) -> Running:
        self._thread.start()
        return self

    def poll(self) -> str | None:
        """None while it runs, else why it ended."""
        return self._end

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(JOIN_SECONDS)
        self._handler.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._try()
                self._stopping.wait(self._every)
        except Exception as error:  # a fault of the model's own: its pod shows it, as that of a program that crashes
            self.log.exception("the model has failed")
            self._end = f"{type(error).__name__}: {error}"

    def _try(self) -> None:
        try:
            self.step()
            self._last_error = ""
        except (ApiError, requests.RequestException, BotoCoreError, ClientError) as error:
            if not self._stopping.is_set() and str(error) != self._last_error:
                self._last_error = str(error)
                self.log.warning("%s; trying again", error)


def evict(context: Context, pod: Json) -> str | None:
    """Ask the API server to evict a pod, as budgets allow; None when it is going or gone, else why it stays."""
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/eviction"
    reference = {"name": metadata["name"], "namespace": metadata["namespace"]}
    options = {"preconditions": {"uid": metadata["uid"]}}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": reference, "deleteOptions": options}
    try:
        context.kube.call("POST", path, body)
    except ApiError as error:
        if error.status == requests.codes.not_found or error.status == requests.codes.conflict:
            return None  # gone, or another pod by now
        if error.status == requests.codes.too_many_requests:
            return str(error)
        raise
    return None
