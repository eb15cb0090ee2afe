"""Level-triggered loops: each step looks at everything and corrects what differs."""

from __future__ import annotations

import abc
import logging
import threading

import requests
from botocore.exceptions import BotoCoreError, ClientError

from lab.kubernetes.client import ApiError

_log = logging.getLogger(__name__)


class Loop(threading.Thread, abc.ABC):
    """Calls ``step`` at least every ``every`` seconds, and soon after ``wake`` was set."""

    def __init__(self, name: str, every: float, wake: threading.Event | None = None) -> None:
        super().__init__(name=name, daemon=True)
        self._every = every
        self.wake = wake or threading.Event()
        self._stopping = threading.Event()
        self._last_error = ""

    @abc.abstractmethod
    def step(self) -> None:
        """One look at everything."""

    def stop(self) -> None:
        """Ask it to end; returns at once, since a step may be waiting for an API server that is going too."""
        self._stopping.set()
        self.wake.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            self.wake.clear()
            try:
                self.step()
                self._last_error = ""
            except (ApiError, requests.RequestException, BotoCoreError, ClientError) as error:
                self._report(error)
            except Exception:  # noqa: BLE001 - a fault of the lab's own must be seen, and must not end the loop for all other nodes
                _log.exception("%s failed", self.name)
            self.wake.wait(self._every)

    def _report(self, error: Exception) -> None:
        """A server that is away is said once, not twice a second."""
        if not self._stopping.is_set() and str(error) != self._last_error:
            self._last_error = str(error)
            _log.warning("%s: %s; trying again", self.name, error)
