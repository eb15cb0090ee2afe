"""A controller that is a process of its own."""

from __future__ import annotations

from lab.supervisor import Child, Supervisor

STOP_SECONDS = 3.0


class Process:
    """lab.controllers.contracts.Running over a child of the daemon."""

    def __init__(self, supervisor: Supervisor, child: Child) -> None:
        self._supervisor, self._child = supervisor, child

    def poll(self) -> str | None:
        """None while it runs, else its exit status and the last line of its log."""
        code = self._child.popen.poll()
        if code is None:
            return None
        lines = self._child.tail().strip().splitlines()
        return f"exit status {code}: {lines[-1] if lines else 'nothing was logged'}"

    def stop(self) -> None:
        """Terminate it, kill it when it takes too long."""
        self._supervisor.stop([self._child], STOP_SECONDS)
