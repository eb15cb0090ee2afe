"""Looks, decides, acts: the model as the program of a cluster-autoscaler pod."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import threading

from botocore.exceptions import ClientError

from lab.controllers.autoscaler import flags, health, permissions, read
from lab.controllers.autoscaler.cloud import Cloud
from lab.controllers.autoscaler.decide import decide
from lab.controllers.autoscaler.drains import Drains
from lab.controllers.autoscaler.model import Decision, Memory, Node, Options, World
from lab.controllers.contracts import CannotStart, Context, Controller, Running
from lab.controllers.worker import Worker
from lab.kubernetes.client import Json, Mirror

USER_AGENT = "cluster-autoscaler gpuops-lab-model"
HEADER = "model of cluster-autoscaler 1.36 (the lab's own, not the program)"
LEAST_SECONDS = 1.0  # of real time between two looks, whatever the scan interval is on the lab's clock
SYNC_SECONDS = 10.0
_WATCHED = {
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    "daemons": "/apis/apps/v1/daemonsets",
    "budgets": "/apis/policy/v1/poddisruptionbudgets",
}


class ClusterAutoscaler(Controller):
    """The model, by the flags of the pod's own container and with what its service account and role may do."""

    name = "cluster-autoscaler"
    repository = "cluster-autoscaler"

    def start(self, context: Context) -> Running:
        try:
            options = flags.parse(list(itertools.dropwhile(lambda word: not word.startswith("-"), context.command)))
        except flags.FlagRefused as error:
            raise CannotStart(str(error)) from error
        _check_permissions(context, options)
        return Autoscaler(context, options).begin()


def _check_permissions(context: Context, options: Options) -> None:
    """Raises CannotStart with everything that RBAC does not allow, ApiError."""
    in_namespace = (*permissions.IN_NAMESPACE, *(permissions.FOR_PRIORITIES if "priority" in options.expander else ()))
    absent = [
        *permissions.missing(permissions.IN_CLUSTER, _rules(context, "default")),
        *permissions.missing(in_namespace, _rules(context, options.namespace)),
    ]
    if absent:
        raise CannotStart(f"its service account may not: {'; '.join(absent)}")


def _rules(context: Context, namespace: str) -> list[Json]:
    """What the service account may do in a namespace (SelfSubjectRulesReview)."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    answer = context.kube.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
    rules: list[Json] = answer["status"]["resourceRules"]
    return rules


class Autoscaler(Worker):
    """One running autoscaler; what it remembers is gone when it ends."""

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, max(LEAST_SECONDS, options.scan_interval / context.clock.factor))
        self._options, self._memory = options, Memory()
        self._cloud = Cloud(lambda service: context.client(service, USER_AGENT), options, self.log)
        changed = threading.Event()
        self._mirrors = {name: Mirror(context.kube, path, changed) for name, path in _WATCHED.items()}
        self._drains = Drains(context, self._cloud, options, self._mirrors["pods"].objects)
        self._first_seen: dict[str, float] = {}
        self._ready_since: dict[str, float] = {}
        self._clean = False
        self._said: tuple[str, ...] = ()

    def begin(self) -> Running:
        self.log.info("%s: %s", HEADER, self._options)
        for mirror in self._mirrors.values():
            mirror.start()
        return super().begin()

    def stop(self) -> None:
        for mirror in self._mirrors.values():
            mirror.stop()
        super().stop()

    def step(self) -> None:
        if not all(mirror.synced.wait(SYNC_SECONDS) for mirror in self._mirrors.values()):
            self.log.warning("the API server has not been listed yet")
            return
        if not self._clean:
            self._drains.clean(self._mirrors["nodes"].objects())
            self._clean = True
        world = self._look()
        failures = self._drains.go_on(world.now)
        if failures:
            self._memory = dataclasses.replace(self._memory, last_failure=world.now)
        decision = decide(world, self._options, self._memory)
        self._tell((*failures, *decision.notes))
        before, self._memory = self._memory.last_scale_up, decision.memory
        self._act(decision, world, before)

    def _tell(self, lines: tuple[str, ...]) -> None:
        """What the look before has not said already."""
        for line in lines:
            if line not in self._said:
                self.log.info(line)
        self._said = lines

    def _look(self) -> World:
        clock = self.context.clock
        moment = read.Moment(clock.seconds(), datetime.datetime.now(datetime.UTC), clock.factor)
        groups = self._cloud.groups(moment.lab)
        nodes = tuple(read.node(raw, moment) for raw in self._mirrors["nodes"].objects())
        return World(
            now=moment.lab,
            nodes=self._aged(nodes, moment.lab),
            pods=tuple(read.pod(raw, moment) for raw in self._mirrors["pods"].objects()),
            groups=groups,
            daemons=tuple(read.daemon(raw) for raw in self._mirrors["daemons"].objects()),
            budgets=tuple(read.budget(raw) for raw in self._mirrors["budgets"].objects()),
            types=self._cloud.types(groups),
            priorities=self._priorities(),
        )

    def _aged(self, nodes: tuple[Node, ...], now: float) -> tuple[Node, ...]:
        """Ages by what Kubernetes wrote or by what was seen, whichever is longer: time that a test lets pass is in the latter alone."""
        self._first_seen = {node.name: self._first_seen.get(node.name, now) for node in nodes}
        self._ready_since = {node.name: self._ready_since.get(node.name, now) for node in nodes if node.ready}
        return tuple(
            dataclasses.replace(
                node,
                created=min(node.created, self._first_seen[node.name]),
                ready_since=min(node.ready_since, self._ready_since.get(node.name, now)),
            )
            for node in nodes
        )

    def _priorities(self) -> str | None:
        if "priority" not in self._options.expander:
            return None
        found = self.context.kube.get(f"/api/v1/namespaces/{self._options.namespace}/configmaps/{permissions.PRIORITIES}")
        return None if found is None else (found.get("data") or {}).get("priorities")

    def _act(self, decision: Decision, world: World, last_scale_up: float) -> None:
        """In the decision's order. A resize that AWS refuses counts neither as a scale-up nor as nodes to come."""
        for resize in decision.resizes:
            self.log.info("Setting asg %s size to %d", resize.group, resize.size)
            try:
                self._cloud.resize(resize.group, resize.size)
            except ClientError as error:
                self.log.warning("Failed to resize %s: %s", resize.group, error)
                memory = health.failed(self._memory, resize.group, self._options, world.now)
                self._memory = dataclasses.replace(memory, last_scale_up=last_scale_up)
        for termination in decision.terminations:
            self.log.info("Removing unregistered node %s of %s", termination.instance_id, termination.group)
            self._cloud.terminate(termination.instance_id)
        for removal in decision.removals:
            self._drains.begin(removal, world.now)
