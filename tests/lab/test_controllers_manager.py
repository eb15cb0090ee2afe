# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers: which pod one runs for, with what, and what its pod shows when it does not run."""

from __future__ import annotations

import threading
import typing as t
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from botocore.exceptions import ClientError

from lab.clock import Clock
from lab.contracts import ClusterRef
from lab.controllers import manager, podspec
from lab.controllers.contracts import CannotStart, Context, Controller
from lab.controllers.manager import ControllerLoop, Lent
from lab.kubernetes.client import Access, Json
from lab.supervisor import Supervisor

CLUSTER = ClusterRef(account="123456789012", region="us-west-2", name="lab", version="1.36")
ROLE = "arn:aws:iam::123456789012:role/karpenter"
IMAGE = "public.ecr.aws/karpenter/controller:1.14.1@sha256:0"


@pytest.mark.parametrize(
    ("image", "matches", "tag"),
    [
        (IMAGE, True, "1.14.1"),
        ("localhost:5000/karpenter/controller", True, ""),
        ("karpenter/controller:v1", True, "v1"),
        ("registry.test/my-karpenter/controller:v1", False, "v1"),
        ("public.ecr.aws/karpenter/controller-debug:v1", False, "v1"),
    ],
)
def test_images(image: str, matches: bool, tag: str) -> None:
    pod = {"spec": {"containers": [{"name": "other", "image": "busybox"}, {"name": "controller", "image": image}]}}
    assert (podspec.container_of(pod, "karpenter/controller") is not None) is matches
    assert podspec.tag(image) == tag


POD: Json = {
    "metadata": {"namespace": "kube-system", "name": "karpenter-0", "labels": {"a/b": "c"}},
    "spec": {"nodeName": "node", "containers": []},
    "status": {"podIP": "10.0.0.9"},
}


def variables(*env: Json, env_from: t.Sequence[Json] = (), **data: dict[str, str]) -> dict[str, str]:
    """What the container sees; ``data`` are ConfigMaps and Secrets by ``kind_name``."""
    limits = {"limits": {"memory": "1Gi", "cpu": "1500m"}, "requests": {"cpu": "250m"}}
    container = {"name": "controller", "image": IMAGE, "env": list(env), "envFrom": list(env_from), "resources": limits}
    pod = {**POD, "spec": {**POD["spec"], "containers": [container]}}
    return podspec.environment(pod, container, lambda kind, name: data.get(f"{kind}_{name}"))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ({"fieldRef": {"fieldPath": "metadata.namespace"}}, "kube-system"),
        ({"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}, "c"),
        ({"fieldRef": {"fieldPath": "spec.nodeName"}}, "node"),
        ({"fieldRef": {"fieldPath": "status.podIP"}}, "10.0.0.9"),
        ({"resourceFieldRef": {"containerName": "controller", "resource": "limits.memory", "divisor": "0"}}, "1073741824"),
        ({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}, "1024"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "2"),
        ({"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}, "250"),
        ({"configMapKeyRef": {"name": "settings", "key": "k"}}, "map"),
        ({"secretKeyRef": {"name": "keys", "key": "k"}}, "secret"),
    ],
)
def test_sources_of_variables(source: Json, value: str) -> None:
    """API reference, EnvVarSource; a divisor of 0 is 1, results are rounded up."""
    found = variables({"name": "X", "valueFrom": source}, ConfigMap_settings={"k": "map"}, Secret_keys={"k": "secret"})
    assert found == {"X": value}


def test_variables_refer_to_earlier_ones() -> None:
    """API reference, EnvVar.value: $(NAME), $$(NAME) is literal, unknown ones stay; env prevails over envFrom."""
    found = variables(
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)-$$(A)-$(C)"},
        {"name": "C"},
        env_from=[{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}}],
        ConfigMap_m={"x": "y"},
        Secret_s={"A": "0"},
    )
    assert found == {"P_x": "y", "A": "1", "B": "1-$(A)-$(C)", "C": ""}
    assert podspec.command({"command": ["run"], "args": ["--a=$(A)", "$(Z)"]}, found) == ("run", "--a=1", "$(Z)")


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("name", ["m", "another"])
def test_what_is_missing(optional: bool, name: str) -> None:
    data = {f"ConfigMap_{name}": {"other": "1"}}
    entry = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": optional}}}
    if optional:
        assert variables(entry, env_from=(), **data) == {}
    else:
        with pytest.raises(podspec.Unresolved):
            variables(entry, env_from=(), **data)


@dataclass
class FakeProgram:
    ended: str | None = None
    stopped: bool = False

    def poll(self) -> str | None:
        return self.ended

    def stop(self) -> None:
        self.stopped = True


class FakeController(Controller):
    name = "karpenter"
    repository = "karpenter/controller"

    def __init__(self) -> None:
        self.started: list[tuple[Context, FakeProgram]] = []
        self.refuses = ""

    def start(self, context: Context) -> FakeProgram:
        if self.refuses:
            raise CannotStart(self.refuses)
        program = FakeProgram()
        self.started.append((context, program))
        return program


@dataclass
class FakeKube:
    pods: dict[str, Json]
    events: list[Json] = field(default_factory=list)
    access: Access = field(default_factory=lambda: Access("https://127.0.0.1:1", Path("ca.crt")))

    def get(self, path: str) -> Json | None:
        return self.pods.get(path.rpartition("/")[2])

    def merge(self, path: str, change: Json) -> Json:
        pod = self.pods[path.split("/")[-2]]
        pod["status"].update(change["status"])
        return pod

    def call(self, method: str, path: str, body: Json) -> Json:
        if path.endswith("/events"):
            self.events.append(body)
            return body
        assert path == "/api/v1/namespaces/kube-system/serviceaccounts/karpenter/token"
        assert body["spec"]["boundObjectRef"]["kind"] == "Pod"
        return {"status": {"token": "token-of-" + body["spec"]["boundObjectRef"]["name"]}}


@dataclass
class FakeAws:
    associations: list[str] = field(default_factory=lambda: ["a-1"])
    roles: tuple[str, ...] = ("karpenter",)

    def list_pod_identity_associations(self, *, clusterName: str, namespace: str, serviceAccount: str) -> Json:
        assert (clusterName, namespace, serviceAccount) == ("lab", "kube-system", "karpenter")
        return {"associations": [{"associationId": name} for name in self.associations]}

    def describe_pod_identity_association(self, *, clusterName: str, associationId: str) -> Json:
        return {"association": {"roleArn": ROLE}}

    def get_role(self, *, RoleName: str) -> Json:
        if RoleName not in self.roles:
            raise ClientError({"Error": {"Code": "NoSuchEntity", "Message": "no"}}, "GetRole")
        return {"Role": {"Arn": ROLE}}

    def assume_role(self, *, RoleArn: str, RoleSessionName: str, DurationSeconds: int) -> Json:
        assert RoleArn == ROLE
        assert len(RoleSessionName) <= 64
        return {"Credentials": {"AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "T"}}


@dataclass
class Rig:
    loop: ControllerLoop
    controller: FakeController
    kube: FakeKube
    aws: FakeAws
    directory: Path

    def pod(self, name: str, created: str = "2026-01-01T00:00:00Z") -> Json:
        """A pod that KWOK has made Running."""
        container = {"name": "controller", "image": IMAGE, "args": ["--v=$(LEVEL)"], "env": [{"name": "LEVEL", "value": "2"}]}
        ready = [{"type": "Ready", "status": "True"}]
        state = {"name": "controller", "ready": True, "restartCount": 0, "state": {"running": {}}}
        self.kube.pods[name] = {
            "metadata": {"namespace": "kube-system", "name": name, "uid": f"uid-{name}", "creationTimestamp": created},
            "spec": {"nodeName": "node", "serviceAccountName": "karpenter", "containers": [container]},
            "status": {"phase": "Running", "conditions": ready, "containerStatuses": [state]},
        }
        return self.kube.pods[name]

    @property
    def programs(self) -> list[FakeProgram]:
        return [program for _context, program in self.controller.started]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(manager, "FIRST_BACKOFF_SECONDS", 0.0)
    kube, aws, controller = FakeKube({}), FakeAws(), FakeController()
    plane: t.Any = SimpleNamespace(cluster=CLUSTER, directory=tmp_path)
    lent = Lent(lambda service, account, region: aws, lambda: "http://127.0.0.1:2", t.cast(Supervisor, None), Clock())
    loop = ControllerLoop(plane, t.cast(t.Any, kube), lambda: list(kube.pods.values()), (controller,), lent, threading.Event())
    return Rig(loop, controller, kube, aws, tmp_path)


def test_one_process_for_all_replicas_with_what_its_pod_has(rig: Rig) -> None:
    rig.pod("b", "2026-01-01T00:00:01Z")
    rig.pod("a")
    rig.loop.step()
    rig.loop.step()
    [(context, _program)] = rig.controller.started
    assert context.pod["metadata"]["name"] == "a"
    assert context.command == ("--v=2",)
    assert context.environment == {"LEVEL": "2"}
    assert context.aws_environment()["AWS_SESSION_TOKEN"] == "T"
    assert context.kube.access.token == "token-of-a"
    assert yaml.safe_load(context.kubeconfig.read_text())["users"][0]["user"] == {"token": "token-of-a"}
    assert context.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_it_moves_to_another_pod_and_stops_with_the_last(rig: Rig) -> None:
    rig.pod("a")
    rig.loop.step()
    del rig.kube.pods["a"]
    rig.pod("b")
    rig.loop.step()
    assert [program.stopped for program in rig.programs] == [True, False]
    rig.kube.pods["b"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    rig.loop.step()
    assert [program.stopped for program in rig.programs] == [True, True]


def test_pods_that_do_not_run_start_nothing(rig: Rig) -> None:
    rig.pod("pending")["status"]["phase"] = "Pending"
    rig.pod("unready")["status"]["conditions"] = []
    rig.loop.step()
    assert rig.programs == []


def test_a_program_that_ends_is_started_again(rig: Rig) -> None:
    pod = rig.pod("a")
    rig.loop.step()
    rig.programs[0].ended = "exit status 2: panic"
    rig.loop.step()
    [state] = pod["status"]["containerStatuses"]
    assert state["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert state["restartCount"] == 1
    [event] = rig.kube.events
    assert (event["type"], event["involvedObject"]["uid"]) == ("Warning", "uid-a")
    assert "karpenter ended: exit status 2: panic" in event["message"]
    rig.loop.step()
    assert len(rig.programs) == 2
    assert "running" in pod["status"]["containerStatuses"][0]["state"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"associations": []}, "no Pod Identity association of kube-system/karpenter"),
        ({"roles": ()}, f"role {ROLE} of the Pod Identity association does not exist"),
    ],
)
def test_without_credentials_it_does_not_start(rig: Rig, change: dict[str, t.Any], message: str) -> None:
    before = {name: getattr(rig.aws, name) for name in change}
    for name, value in change.items():
        setattr(rig.aws, name, value)
    pod = rig.pod("a")
    rig.loop.step()
    assert rig.programs == []
    assert message in rig.kube.events[0]["message"]
    assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"] == "False"
    for name, value in before.items():
        setattr(rig.aws, name, value)
    rig.loop.step()
    assert len(rig.programs) == 1


def test_a_program_that_cannot_start_waits_longer_each_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "FIRST_BACKOFF_SECONDS", 60.0)
    rig.controller.refuses = "no program"
    rig.pod("a")
    for _each in range(3):
        rig.loop.step()
    assert len(rig.kube.events) == 1


def test_the_end_stops_everything(rig: Rig) -> None:
    rig.pod("a")
    rig.loop.step()
    rig.loop.end()
    assert rig.programs[0].stopped
    rig.loop.step()
    assert len(rig.programs) == 1
