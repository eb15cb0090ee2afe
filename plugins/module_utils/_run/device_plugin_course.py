# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Carries out a plan of the device plugin: objects, then node after node where pods have to leave, then waits for all nodes.

Nodes, our DaemonSets and our pods are followed by one watch each, so that a wait costs no request for a node.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError, Interrupted, ServiceError, WaitFailed
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.follow import Followed, Follower
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    DAEMON_SET,
    POD,
    Object,
    is_ready,
    name_of,
    namespace_of,
    target_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan import transition
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design, component_of, hash_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin import Way
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import Observed
from ansible_collections.gpuops.eks.plugins.module_utils._plan.drain import CORDON_ANNOTATION
from ansible_collections.gpuops.eks.plugins.module_utils._plan.rollout import Row, Status, Trouble, judge, table
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, combine
from ansible_collections.gpuops.eks.plugins.module_utils._plan.transition import Move
from ansible_collections.gpuops.eks.plugins.module_utils._run.device_plugin_reads import Reading, followed
from ansible_collections.gpuops.eks.plugins.module_utils._run.gpu_catalog import GpuCatalog
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Run

_LOGS, _LOG_LINES = 3, 3


class NodesNotReady(WaitFailed):
    """Nodes that do not advertise what their configuration says, each with the reason."""

    def __init__(self, rows: t.Sequence[Row], status: Status, plan: Plan, after: str) -> None:
        self._rows = rows
        self._plan = plan
        nodes, of = len({row.node for row in rows}), len({row.node for row in status.rows})
        rollouts = [str(rollout) for rollout in status.rollouts if not rollout.done]
        what = f"{nodes} of {of} nodes do not advertise what their configuration says{after}:\n{table(rows)}"
        super().__init__(what if rows else f"The rollout is not complete{after}: {'; '.join(rollouts)}.")

    def result(self) -> dict[str, t.Any]:
        return {"nodes": [_row_result(row) for row in self._rows], "plan": self._plan.to_list()}


def _row_result(row: Row) -> dict[str, t.Any]:
    return {**row.to_dict(), "configuration": row.configuration, "why": row.why}


def course_plan(design: Design, observed: Observed, way: Way, *, size: int) -> Plan:
    """Every call of a run, in order; a run that is carried out looks at each node's pods again when its turn has come."""
    return combine(
        [planning.plan_begin(design, observed, way), *_node_plans(design, observed, way, size), planning.plan_end(design, observed, way)]
    )


def _node_plans(design: Design, observed: Observed, way: Way, size: int) -> list[Plan]:
    moves = [transition.batch_plan(batch) for batch in transition.batches(way.moves, size)]
    taken = [_taken(batch) for batch in _foreign_batches(design, observed, size)]
    left = [transition.uncordon(node) for node in _left_cordoned(observed, way)]
    return [*left, *moves, *taken]


def _left_cordoned(observed: Observed, way: Way) -> list[Node]:
    """Nodes that an interrupted run has cordoned and that need no drain any more."""
    moving = {move.node.name for move in way.moves}
    return [node for node in observed.nodes if CORDON_ANNOTATION in node.annotations and node.name not in moving]


def _foreign_batches(design: Design, observed: Observed, size: int) -> list[list[Object]]:
    """The pods of others' plugins on nodes of ours, as many nodes at once as may be without a plugin."""
    ours = {node.name for node in observed.nodes if design.parts_of(node)}
    by_node: dict[str, list[Object]] = {}
    for pod in observed.foreign_pods:
        if (name := pod["spec"].get("nodeName")) in ours:
            by_node.setdefault(name, []).append(pod)
    names = sorted(by_node)
    return [[pod for name in names[start : start + size] for pod in by_node[name]] for start in range(0, len(names), size)]


def _taken(pods: t.Iterable[Object]) -> Plan:
    steps = [transition.delete_pod(pod, f"ours takes its place on node {pod['spec']['nodeName']}") for pod in pods]
    return Plan(steps=tuple(dataclasses.replace(step, effect="delete") for step in steps))


class Course:
    """One run. ``status`` is how things stand after it."""

    def __init__(self, run: Run, kube: Kubernetes, design: Design, way: Way, reading: Reading, catalog: GpuCatalog) -> None:
        self._run, self._kube, self._design, self._way, self._catalog = run, kube, design, way, catalog
        self._observed = reading.observed
        self._lists = reading.lists
        self._follower: Follower | None = None
        self._made: list[Step] = []
        self._plan = Plan()
        self._awaited: dict[str, str | None] = {}
        self._progress = _Progress(run)
        self._nodes, self._sets, self._pods = followed(design.plugin.namespace)

    @property
    def daemon_sets(self) -> list[Object]:
        """Those of the plugin's namespace, as far as is known now."""
        if self._follower is not None:
            return self._follower.objects(self._sets)
        return [obj for obj in self._observed.daemon_sets if namespace_of(obj) == self._design.plugin.namespace]

    def carry_out(self, plan: Plan) -> Plan:
        """Make the plan's calls and wait; returns the plan as it was made. Interrupted says how far it came."""
        self._plan, size = plan, self._run.params["max_unavailable"]
        try:
            self._do(planning.plan_begin(self._design, self._observed, self._way))
            left = self._release()  # first: pods that have to leave another node may have a place there
            for batch in transition.batches(self._way.moves, size):
                self._move(batch)
            for pods in _foreign_batches(self._design, self._observed, size):
                self._take(pods)
            self._release_late(left)
            self._do(planning.plan_end(self._design, self._observed, self._way))
        except Interrupted:
            raise
        except GpuopsError as error:
            raise self._interrupted(error, []) from error
        made = dataclasses.replace(plan, steps=tuple(self._made))
        self._settle(made)
        return made

    def status(self) -> Status:
        """How things stand, as far as is known now."""
        nodes = [node for node in self._nodes_now() if self._design.parts_of(node)]
        types = self._catalog.read(nodes)
        return judge(self._design, daemon_sets=self.daemon_sets, nodes=nodes, pods=self._pods_now(), catalog=types)

    def _nodes_now(self) -> list[Node]:
        if self._follower is None:
            return list(self._observed.nodes)
        return [Node.from_api(obj) for obj in self._follower.objects(self._nodes)]

    def _pods_now(self) -> list[Object]:
        return list(self._observed.pods) if self._follower is None else self._follower.objects(self._pods)

    def _do(self, plan: Plan) -> None:
        versions = {name_of(obj): obj["metadata"].get("resourceVersion") for obj in self.daemon_sets}
        for step in plan.steps:
            if step.action == f"kubernetes:patch {DAEMON_SET.resource}":
                self._awaited[name_of(step.request)] = versions.get(name_of(step.request))
        try:
            self._run.apply(plan)
        except Interrupted as error:
            raise self._interrupted(error.cause, plan.steps[: len(error.done)]) from error
        self._made += plan.steps

    def _caught_up(self) -> bool:
        """Whether what is known of the DaemonSets that were written is newer than the write."""
        versions = {name_of(obj): obj["metadata"].get("resourceVersion") for obj in self.daemon_sets}
        return all(versions.get(name) not in (None, before) for name, before in self._awaited.items())

    def _interrupted(self, cause: GpuopsError, done: t.Sequence[Step]) -> Interrupted:
        made = [*self._made, *done]
        keys = [(step.action, step.target) for step in made]
        left = []
        for step in self._plan.steps:
            if (step.action, step.target) in keys:
                keys.remove((step.action, step.target))
            else:
                left.append(step.to_dict())
        return Interrupted(cause, [step.to_dict() for step in made], left)

    def _follow(self) -> Follower:
        """From the lists that the plan was made of: what has changed since then comes as events."""
        if self._follower is None:
            self._follower = Follower(self._kube)
            for one in (self._nodes, self._sets, self._pods):
                self._follower.add(one, self._lists.get(one))
        return self._follower

    def _move(self, batch: t.Sequence[Move]) -> None:
        """Take these nodes out of service, free their GPUs, restart our programs there, and put them back."""
        there = {node.name for node in self._nodes_now()}
        batch = [move for move in batch if move.node.name in there]
        names = {move.node.name for move in batch}
        self._do(combine(map(transition.cordon, batch)))
        self._drain(batch)
        # A controller that has not seen the new template would make the old pods again.
        self._until(lambda status: [], lambda status: all(rollout.observed for rollout in status.rollouts))
        self._do(combine(transition.restart(seen.node, seen.daemons) for seen in self._seen(names)))
        self._until(lambda status: status.of(names), lambda status: self._daemons_settled(names))
        self._do(combine(transition.restart(seen.node, seen.plugins) for seen in self._seen(names)))
        self._until(lambda status: status.of(names))
        self._uncordon(names)

    def _seen(self, names: t.Container[str]) -> list[transition.Seen]:
        """Nodes with our pods on them as they are now."""
        nodes = [node for node in self._nodes_now() if node.name in names]
        observed = dataclasses.replace(self._observed, nodes=tuple(nodes), pods=tuple(self._pods_now()))
        return planning.in_order(self._design, observed, self._catalog.read(nodes))

    def _drain(self, batch: t.Sequence[Move]) -> None:
        """Evict the pods that hold GPUs now: some have come since the plan was made, others have gone."""
        pods = Follower(self._kube)
        on = {move.node.name: Followed(kind=POD, fields=f"spec.nodeName={move.node.name}") for move in batch}
        fresh = [move.with_holders(pods.add(on[move.node.name])) for move in batch]
        if text := transition.refusal(fresh, drain=self._run.params["drain"]):
            self._uncordon({move.node.name for move in fresh})  # nobody has left it: without consent it stays in service
            raise GpuopsError(text)
        self._do(combine(map(transition.evict, fresh)))
        end = time.monotonic() + self._kube.timeout
        while left := [pod for move in fresh for pod in move.leaving(pods.objects(on[move.node.name]))]:
            for move in fresh:
                staying = len(move.leaving(pods.objects(on[move.node.name])))
                what = f"{staying} pod has" if staying == 1 else f"{staying} pods have"
                self._progress.line(move.node.name, f"Node {move.node.name}: waiting until {what} left its GPUs")
            if not pods.changed(max(0.0, end - time.monotonic())) and time.monotonic() > end:
                raise WaitFailed(
                    f"Pods on GPUs are still there after {self._kube.timeout:.0f} s: {', '.join(sorted(map(target_of, left)))}."
                )
        for move in fresh:
            if text := transition.intruders(move, pods.objects(on[move.node.name])):
                raise GpuopsError(text)

    def _daemons_settled(self, names: t.Container[str]) -> bool:
        """Whether the MPS control daemons of these nodes are those that are wanted, and ready; the plugin comes after them."""
        pods = [pod for pod in self._pods_now() if component_of(pod) == manifests.MPS_DAEMON]
        for seen in self._seen(names):
            wanted = self._hash(seen.configuration)
            here = [pod for pod in pods if pod["spec"].get("nodeName") == seen.node.name]
            if any(hash_of(pod) != wanted for pod in here):
                return False
            # Into MPS the daemon waits for the old plugin to go, so that it cannot be there yet.
            if seen.present and seen.present["strategy"] == transition.MPS == seen.wanted["strategy"] and not any(map(is_ready, here)):
                return False
        return True

    def _hash(self, configuration: str) -> str | None:
        return next(part.hashes.get(manifests.MPS_DAEMON) for part in self._design.parts if part.name == configuration)

    def _take(self, pods: t.Sequence[Object]) -> None:
        """Let ours take the place of others' plugin on these nodes."""
        self._do(_taken(pods))
        names = {pod["spec"]["nodeName"] for pod in pods}
        self._until(lambda status: status.of(names))

    def _release(self) -> set[str]:
        """Uncordon what an interrupted run has left so and what shares its GPUs as wanted; returns the nodes that do not yet."""
        names = {node.name for node in _left_cordoned(self._observed, self._way)}
        wrong = {row.node for row in self.status().of(names) if row.why}
        self._uncordon(names - wrong)
        return wrong

    def _release_late(self, names: t.Collection[str]) -> None:
        """The same for the rest, which has had the time of the other nodes. One that does not come right stops nobody and stays cordoned."""
        if not names:
            return
        try:
            self._until(lambda status: status.of(names))
        except NodesNotReady as error:
            self._run.warn(f"Cordoned by an interrupted run, and left so until they share their GPUs as wanted: {error}")
        self._uncordon(set(names) - {row.node for row in self.status().of(names) if row.why})

    def _uncordon(self, names: t.Container[str]) -> None:
        self._do(combine(transition.uncordon(node) for node in self._nodes_now() if node.name in names))

    def _settle(self, made: Plan) -> None:
        """Wait for all nodes, where the user wants it. What another tool keeps becomes what is wanted when that tool does it."""
        if self._run.params["wait"] and not planning.kept_by_others(self._design, self._observed):
            if made.steps or not self.status().done:
                self._until(lambda status: list(status.rows), lambda status: status.done, made)
        elif made.steps and self._follower is None:
            self._lists = {}
            self._follow()

    def _until(
        self,
        rows_of: t.Callable[[Status], list[Row]],
        done: t.Callable[[Status], bool] | None = None,
        made: Plan | None = None,
    ) -> None:
        """Wait until it is done: without ``done``, until none of these rows has a reason not to be. NodesNotReady as soon as that is evident."""
        follower, end = self._follow(), time.monotonic() + self._kube.timeout
        while True:
            status = self.status()
            self._progress.tell(status)
            rows = [row for row in rows_of(status) if row.why]
            if self._caught_up() and (done(status) if done else not rows):
                return
            if any(row.trouble.hopeless for row in rows):
                raise NodesNotReady(self._explained(rows), status, made or Plan(), "")
            if time.monotonic() > end:
                raise NodesNotReady(self._explained(rows), status, made or Plan(), f" within {self._kube.timeout:.0f} s")
            follower.changed(max(0.0, end - time.monotonic()))

    def _explained(self, rows: t.Sequence[Row]) -> list[Row]:
        """The rows with the last lines of crashed containers, of the first few."""
        logs: dict[str, str] = {}
        for trouble in (row.trouble for row in rows if row.trouble.pod):
            if trouble.pod not in logs and len(logs) < _LOGS:
                logs[trouble.pod] = self._log(trouble)
        return [row.explained(logs.get(row.trouble.pod, "")) for row in rows]

    def _log(self, trouble: Trouble) -> str:
        namespace, _slash, name = trouble.pod.partition("/")
        pod = {"metadata": {"namespace": namespace, "name": name}}
        try:
            text = self._kube.log(pod, trouble.container, lines=_LOG_LINES, previous=True)
        except ServiceError as error:
            text = str(error)
        return " | ".join(line.strip() for line in text.splitlines() if line.strip())


class _Progress:
    """Tells what has changed since it was last told."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._told: dict[str, str] = {}

    def tell(self, status: Status) -> None:
        for rollout in status.rollouts:
            self.line(rollout.daemon_set, str(rollout))
        for row in status.rows:
            why = f", {row.why}" if row.why else ""
            self.line(f"{row.node} {row.resource}", f"Node {row.node}: {row.resource} {row.advertised}{why}")

    def line(self, subject: str, line: str) -> None:
        if self._told.get(subject) != line:
            self._told[subject] = line
            self._run.tell(line)
