"""Client tokens: the same token and request gets the first reply again, other parameters get an error.

Sources: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html and the EKS API reference's clientRequestToken.
A token is remembered as long as what it made is there: an assumption on the kind side, as AWS documents no fixed time.
"""

from __future__ import annotations

import threading
import typing as t
from dataclasses import dataclass

from werkzeug.wrappers import Response


@dataclass(frozen=True, slots=True)
class Remembered:
    """A reply, what was asked, and whether its outcome is still there."""

    fingerprint: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    alive: t.Callable[[], bool]

    def response(self) -> Response:
        return Response(self.body, status=self.status, headers=self.headers)


class TokenMismatch(Exception):
    """The token was used before with other parameters."""


class ClientTokens:
    """Replies by (account, region, service, operation, token)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_use: dict[tuple[str, ...], threading.Lock] = {}
        self._replies: dict[tuple[str, ...], Remembered] = {}

    def serialise(self, key: tuple[str, ...]) -> threading.Lock:
        """The lock under which requests with the same token run one after the other."""
        with self._lock:
            return self._in_use.setdefault(key, threading.Lock())

    def recall(self, key: tuple[str, ...], fingerprint: str) -> Response | None:
        """The first reply, None when there is none to repeat; raises TokenMismatch."""
        with self._lock:
            remembered = self._replies.get(key)
        if remembered is None or not remembered.alive():
            return None
        if remembered.fingerprint != fingerprint:
            raise TokenMismatch
        return remembered.response()

    def remember(self, key: tuple[str, ...], fingerprint: str, response: Response, alive: t.Callable[[], bool]) -> None:
        """Keep a successful reply."""
        remembered = Remembered(fingerprint, response.status_code, list(response.headers.items()), response.get_data(), alive)
        with self._lock:
            self._replies[key] = remembered

    def clear(self) -> None:
        with self._lock:
            self._replies.clear()
