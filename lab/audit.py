"""The audit log of a cluster's API server: who did what."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})
REVIEWS = frozenset(
    {
        "tokenreviews",
        "subjectaccessreviews",
        "localsubjectaccessreviews",
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "selfsubjectreviews",
    }
)
FINAL_STAGES = frozenset({"ResponseComplete", "Panic"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One request, when it was answered."""

    time: str
    user: str
    verb: str
    uri: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    user_agent: str

    @property
    def dry_run(self) -> bool:
        return "All" in parse_qs(urlsplit(self.uri).query).get("dryRun", [])

    @property
    def system(self) -> bool:
        """Whether a component did it: control plane, service account, node, or the lab itself."""
        return self.user.startswith("system:")


def read(path: Path) -> list[Event]:
    """All answered requests of a log and of what was rotated out of it, oldest first; none when there is no log yet."""
    rotated = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))
    return [event for each in [*rotated, path] if each.exists() for event in parse(each.read_text(encoding="utf-8"))]


def writes(events: Iterable[Event], user: str | None = None) -> list[Event]:
    """The writes among ``events``: a changing verb, not a dry run, no review, by a user who is no component (or by ``user``)."""
    return [
        e
        for e in events
        if e.verb in WRITE_VERBS and not e.dry_run and e.resource not in REVIEWS and (not e.system if user is None else e.user == user)
    ]


def parse(text: str) -> list[Event]:
    """The answered requests of a piece of a log, whose last line may be half written."""
    parsed = (json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n"))
    return [_event(raw) for raw in parsed if raw["stage"] in FINAL_STAGES]


def _event(raw: dict[str, object]) -> Event:
    user = raw.get("impersonatedUser") or raw.get("user")
    reference = raw.get("objectRef")
    status = raw.get("responseStatus")
    what = reference if isinstance(reference, dict) else {}
    return Event(
        time=str(raw.get("stageTimestamp", "")),
        user=str(user.get("username", "")) if isinstance(user, dict) else "",
        verb=str(raw.get("verb", "")),
        uri=str(raw.get("requestURI", "")),
        group=str(what.get("apiGroup", "")),
        resource=str(what.get("resource", "")),
        subresource=str(what.get("subresource", "")),
        namespace=str(what.get("namespace", "")),
        name=str(what.get("name", "")),
        code=int(status.get("code", 0)) if isinstance(status, dict) else 0,
        user_agent=str(raw.get("userAgent", "")),
    )
