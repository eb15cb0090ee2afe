"""The lab's own levers, under /_lab on the AWS endpoint: state, clock, faults, stale reads, quotas, reset. JSON in, JSON out."""

from __future__ import annotations

import json
import typing as t

from werkzeug.wrappers import Response

from lab.aws.consistency import Consistency
from lab.aws.events import Interruptions
from lab.aws.faults import Faults
from lab.aws.quotas import Quotas
from lab.clock import Clock
from lab.contracts import ClusterRef

Handler = t.Callable[[dict[str, t.Any]], dict[str, t.Any]]


class ControlApplication:
    """``GET status``, ``POST clock {advance | factor}``, ``GET | POST | DELETE faults``, ``GET | POST consistency``, ``GET | POST quotas``,
    ``POST reset``."""

    def __init__(
        self,
        *,
        clock: Clock,
        faults: Faults,
        consistency: Consistency,
        quotas: Quotas,
        clusters: t.Callable[[], list[ClusterRef]],
        reset: t.Callable[[], None],
        announce: t.Callable[[dict[str, t.Any]], dict[str, t.Any]],
    ) -> None:
        self._clock = clock
        self._faults = faults
        self._consistency = consistency
        self._clusters = clusters
        self._reset = reset
        self._announce = announce
        self._handlers: dict[tuple[str, str], Handler] = {
            ("GET", "status"): self._status,
            ("POST", "clock"): self._set_clock,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._add_fault,
            ("POST", "fault"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "consistency"): lambda request: {"consistency": consistency.describe()},
            ("POST", "consistency"): lambda request: {"consistency": consistency.configure(request)},
            ("GET", "quotas"): lambda request: {"quotas": quotas.describe()},
            ("POST", "quotas"): lambda request: {"quotas": quotas.configure(request)},
            ("POST", "reset"): self._do_reset,
        }

    def handle(self, environ: dict[str, t.Any], body: bytes) -> Response:
        """The reply: 404 for what is not there, 400 for what makes no sense."""
        name = str(environ["PATH_INFO"]).removeprefix("/_lab/").strip("/")
        handler = self._handlers.get((environ["REQUEST_METHOD"], name))
        if handler is None:
            known = ", ".join(f"{method} /_lab/{path}" for method, path in self._handlers)
            return _reply({"error": f"{environ['REQUEST_METHOD']} /_lab/{name} is none of: {known}"}, 404)
        try:
            request = json.loads(body or b"{}")
            if not isinstance(request, dict):
                raise ValueError("the body is not a JSON object")
            return _reply(handler(request), 200)
        except (ValueError, TypeError, KeyError) as error:
            return _reply({"error": str(error)}, 400)

    def _status(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        clusters = [{"account": ref.account, "region": ref.region, "name": ref.name, "version": ref.version} for ref in self._clusters()]
        return {**self._clock_document(), "clusters": clusters, "faults": self._faults.list(), "consistency": self._consistency.describe()}

    def _clock_document(self) -> dict[str, t.Any]:
        return {"clock": {"seconds": self._clock.seconds(), "now": self._clock.now().isoformat(), "factor": self._clock.factor}}

    def _set_clock(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        unknown = request.keys() - {"advance", "factor"}
        if unknown or not request:
            raise ValueError("clock takes advance (seconds) and factor (simulated seconds for each real one)")
        if float(request.get("factor", 0)) < 0 or float(request.get("advance", 0)) < 0:
            raise ValueError("time does not run backwards")
        if "factor" in request:
            self._clock.set_factor(float(request["factor"]))
        self._clock.advance(float(request.get("advance", 0)))
        return self._clock_document()

    def _list_faults(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"faults": self._faults.list()}

    def _add_fault(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        if request.get("kind") in Interruptions.KINDS:
            return {"fault": self._announce(request)}
        return {"fault": self._faults.add(request).describe()}

    def _clear_faults(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        self._faults.clear(request.get("id"))
        return {"faults": self._faults.list()}

    def _do_reset(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        self._reset()
        return self._status({})


def _reply(document: dict[str, t.Any], status: int) -> Response:
    return Response(json.dumps(document), status=status, content_type="application/json")
