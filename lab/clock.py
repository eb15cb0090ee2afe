"""The lab's clock: real time, times a factor, plus what tests advance it by."""

from __future__ import annotations

import datetime
import threading
import time


class Clock:
    """Simulated seconds since the lab's start; time-driven states of the simulated AWS depend on nothing else.

    ``factor`` is simulated seconds for each real one (60: a minute passes in a second).
    """

    def __init__(self, factor: float = 60.0) -> None:
        self._lock = threading.Lock()
        self._anchor = time.monotonic()
        self._elapsed = 0.0
        self._factor = factor
        self._origin = datetime.datetime.now(datetime.UTC)

    @property
    def factor(self) -> float:
        return self._factor

    def seconds(self) -> float:
        """Simulated seconds since the start."""
        with self._lock:
            return self._elapsed + (time.monotonic() - self._anchor) * self._factor

    def now(self) -> datetime.datetime:
        """The simulated date and time, in UTC."""
        return self._origin + datetime.timedelta(seconds=self.seconds())

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` simulated seconds pass at once."""
        with self._lock:
            self._elapsed += seconds

    def set_factor(self, factor: float) -> None:
        """Change the speed from now on."""
        with self._lock:
            real = time.monotonic()
            self._elapsed += (real - self._anchor) * self._factor
            self._anchor = real
            self._factor = factor
