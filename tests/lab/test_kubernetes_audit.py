# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a write in an audit log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import audit


def line(
    verb: str = "patch",
    user: str = "arn:aws:iam::123456789012:user/alice",
    resource: str = "daemonsets",
    query: str = "",
    stage: str = "ResponseComplete",
    code: int = 200,
) -> str:
    return json.dumps(
        {
            "stage": stage,
            "verb": verb,
            "user": {"username": user},
            "requestURI": f"/apis/apps/v1/namespaces/x/{resource}/y{query}",
            "objectRef": {"resource": resource, "namespace": "x", "name": "y", "apiGroup": "apps"},
            "responseStatus": {"code": code},
            "stageTimestamp": "2026-01-01T00:00:00Z",
        }
    )


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        pytest.param(line(), True, id="patch"),
        pytest.param(line(verb="create"), True, id="create"),
        pytest.param(line(verb="update"), True, id="update"),
        pytest.param(line(verb="delete"), True, id="delete"),
        pytest.param(line(verb="deletecollection"), True, id="deletecollection"),
        pytest.param(line(code=403), True, id="refused"),
        pytest.param(line(verb="get"), False, id="get"),
        pytest.param(line(verb="watch"), False, id="watch"),
        pytest.param(line(query="?dryRun=All&fieldManager=gpuops.eks"), False, id="server-side dry run"),
        pytest.param(line(query="?fieldManager=dryRun%3DAll"), True, id="no dry run, only its name"),
        pytest.param(line(verb="create", resource="tokenreviews"), False, id="TokenReview"),
        pytest.param(line(verb="create", resource="selfsubjectaccessreviews"), False, id="SelfSubjectAccessReview"),
        pytest.param(line(user="system:kube-scheduler"), False, id="scheduler"),
        pytest.param(line(user="system:gpuops-lab"), False, id="the lab itself"),
        pytest.param(line(user="system:serviceaccount:kube-system:x"), False, id="service account"),
        pytest.param(line(stage="ResponseStarted"), False, id="not answered yet"),
    ],
)
def test_writes(tmp_path: Path, text: str, counts: bool) -> None:
    (tmp_path / "c.log").write_text(text + "\n")
    assert bool(audit.writes(audit.read(tmp_path / "c.log"))) is counts


def test_one_users_writes(tmp_path: Path) -> None:
    (tmp_path / "c.log").write_text("\n".join([line(), line(user="bob"), line(user="system:kwok")]) + "\n")
    events = audit.read(tmp_path / "c.log")
    assert [e.user for e in audit.writes(events, "bob")] == ["bob"]
    assert [e.user for e in audit.writes(events, "system:kwok")] == ["system:kwok"]


def test_a_half_written_line_waits_and_rotated_logs_come_first(tmp_path: Path) -> None:
    (tmp_path / "c.log").write_text(line(user="second") + "\n" + line(user="third")[:50])
    (tmp_path / "c-2026-01-01T00-00-00.000.log").write_text(line(user="first") + "\n")
    assert [e.user for e in audit.read(tmp_path / "c.log")] == ["first", "second"]


def test_no_log_no_events(tmp_path: Path) -> None:
    assert audit.read(tmp_path / "absent.log") == []
