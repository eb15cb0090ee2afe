# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs of containers as kubelets serve them (PodLogOptions; kubernetes, pkg/kubelet/kubelet_pods.go)."""

from __future__ import annotations

import datetime
import typing as t

import pytest

from lab.kubernetes.kubelets import NOTHING_RUNS, Kubelets, Line, NoLogs, shown
from lab.nodes.logs import ERROR, Logs

NOW = datetime.datetime.now(datetime.UTC)
LINES = [Line(NOW - datetime.timedelta(hours=ago), text) for ago, text in ((6, "one"), (3, "two"), (1, "three"))]  # tests may take a while


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "one\ntwo\nthree\n"),
        ({"tailLines": "2"}, "two\nthree\n"),
        ({"tailLines": "0"}, ""),
        ({"tailLines": "9"}, "one\ntwo\nthree\n"),
        ({"sinceSeconds": str(5 * 3600)}, "two\nthree\n"),
        ({"sinceTime": LINES[2].when.isoformat()}, "three\n"),
        ({"limitBytes": "5"}, "one\nt"),
    ],
)
def test_which_lines_are_shown(options: dict[str, str], expected: str) -> None:
    assert shown(LINES, options) == expected


def test_stamps_and_numbers() -> None:
    assert shown(LINES[:1], {"timestamps": "true"}) == f"{LINES[0].when:%Y-%m-%dT%H:%M:%S.%f}000Z one\n"
    with pytest.raises(ValueError, match="invalid literal"):
        shown(LINES, {"tailLines": "all"})


def pod(uid: str = "1") -> dict[str, t.Any]:
    return {"metadata": {"namespace": "a", "name": "p", "uid": uid}}


def texts(logs: Logs, *, previous: bool = False) -> list[str] | None:
    lines = logs.read("a", "p", "c", previous)
    return None if lines is None else [line.text.partition("] ")[2] for line in lines]


def test_lines_of_a_container_that_starts_again() -> None:
    logs = Logs()
    assert texts(logs) is None
    logs.wait(pod(), "c", "ContainerCreating")
    with pytest.raises(NoLogs, match=r'^container "c" in pod "p" is waiting to start: ContainerCreating$'):
        texts(logs)
    logs.begin(pod(), "c")
    logs.say(pod(), "c", "first", level=ERROR)
    assert texts(logs) == ["first"]
    with pytest.raises(NoLogs, match=r'^previous terminated container "c" in pod "p" not found$'):
        texts(logs, previous=True)
    logs.begin(pod(), "c")
    logs.say(pod(), "c", "second")
    assert (texts(logs), texts(logs, previous=True)) == (["second"], ["first"])
    logs.say(pod("2"), "c", "another pod of that name")
    assert texts(logs) == ["another pod of that name"]
    logs.keep_only({"1"})
    assert texts(logs) is None


def test_lines_are_klogs() -> None:
    logs = Logs()
    logs.say(pod(), "c", "broken", level=ERROR)
    found = logs.read("a", "p", "c", False)
    assert found is not None
    assert found[0].text.startswith(f"E{found[0].when:%m%d %H:%M:%S.%f} ")


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("/containerLogs/a/p/c?tailLines=5", 200, "line"),
        ("/containerLogs/a/other/c", 200, NOTHING_RUNS),
        ("/containerLogs/a/other/c?previous=true", 400, 'previous terminated container "c" in pod "other" not found'),
        ("/containerLogs/a/p/c?tailLines=x", 400, "invalid literal"),
        ("/exec/a/p/c?command=ls", 501, "serve logs alone, not exec"),
    ],
)
def test_what_the_endpoint_answers(target: str, status: int, words: str) -> None:
    kubelets, logs = Kubelets(), Logs()
    logs.say(pod(), "c", "line")
    kubelets.sources.append(logs.read)
    code, text = kubelets.answer(target)
    assert code == status
    assert words in text
