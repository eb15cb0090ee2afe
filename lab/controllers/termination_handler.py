"""A model of aws-node-termination-handler in queue mode: cordons and drains the nodes that its queue names.

It looks after instances with its tag alone, so after self-managed groups: EKS drains the nodes of its managed node groups itself
(EKS User Guide, "Managed node groups", Spot capacity), Karpenter those of its own.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from botocore.exceptions import ClientError

from lab.controllers import termination_events as events
from lab.controllers.contracts import CannotStart, Context, Controller, Running
from lab.controllers.worker import Worker, evict
from lab.kubernetes.client import Json

USER_AGENT = "aws-node-termination-handler gpuops-lab-model"
HEADER = "model of aws-node-termination-handler, queue mode (the lab's own, not the program)"
EVERY_SECONDS = 1.0  # where the real one holds a receive for 20 seconds
MIRROR = "kubernetes.io/config.mirror"
TAINT_VALUE_LENGTH = 63


class TerminationHandler(Controller):
    """The model, by the environment of the pod's own container."""

    name = "aws-node-termination-handler"
    repository = "aws-node-termination-handler"

    def start(self, context: Context) -> Running:
        try:
            settings = events.settings(context.environment)
        except events.SettingsRefused as error:
            raise CannotStart(str(error)) from error
        return Handler(context, settings).begin()


@dataclass(frozen=True, slots=True)
class _Drain:
    """A message whose nodes are being drained."""

    event: events.Event
    receipt: str
    nodes: tuple[str, ...]
    began: float


class Handler(Worker):
    """One running handler."""

    def __init__(self, context: Context, settings: events.Settings) -> None:
        super().__init__(context, EVERY_SECONDS)
        self._settings = settings
        self._sqs, self._ec2 = context.client("sqs", USER_AGENT), context.client("ec2", USER_AGENT)
        self._autoscaling = context.client("autoscaling", USER_AGENT)
        self._drains: dict[str, _Drain] = {}

    def begin(self) -> Running:
        self.log.info("%s: %s", HEADER, self._settings)
        return super().begin()

    def step(self) -> None:
        received = self._sqs.receive_message(
            QueueUrl=self._settings.queue_url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=self._settings.visibility_seconds,
            WaitTimeSeconds=0,
        )
        for message in received.get("Messages") or ():
            self._take(message["Body"], message["ReceiptHandle"])
        for identifier, drain in list(self._drains.items()):
            self._go_on(identifier, drain)

    def _take(self, body: str, receipt: str) -> None:
        """Begin what a message asks for. What cannot be done now stays in the queue and comes again."""
        try:
            event = events.event(body)
        except events.NotSupported as error:
            self.log.warning("ignoring interruption event: %s", error)
            return
        if event is not None and event.identifier in self._drains:  # its drain takes longer than the queue hides it
            self._drains[event.identifier] = replace(self._drains[event.identifier], receipt=receipt)
            return
        instances = [] if event is None else [found for each in event.instance_ids if (found := self._instance(each)) is not None]
        if event is None or not instances:
            self.log.info("dropping a message that asks for nothing here: %s", body[:300])
            self._delete(receipt)
            return
        names = [self._node_name(instance) for instance in instances]
        nodes = tuple(name for name in names if name and self._cordon(name, event))
        if nodes:
            self._drains[event.identifier] = _Drain(event, receipt, nodes, self.context.clock.seconds())
        elif self._settings.delete_message_without_node:
            self._delete(receipt)

    def _instance(self, instance_id: str) -> Json | None:
        """The instance if it is there, has a name and is this handler's to look after."""
        try:
            reservations = self._ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        except ClientError as error:
            if not error.response["Error"]["Code"].startswith("InvalidInstanceID"):
                raise
            self.log.warning("No instance found with instance-id %s", instance_id)
            return None
        found: list[Json] = [instance for reservation in reservations for instance in reservation["Instances"]]
        # EC2 has no name for what is terminated. moto keeps it, and a new instance may have it by then.
        named = [each for each in found if each.get("PrivateDnsName") and each["State"]["Name"] != "terminated"]
        tags = {tag["Key"] for instance in named for tag in instance.get("Tags") or ()}
        managed = self._settings.managed_tag is None or self._settings.managed_tag in tags
        return named[0] if named and managed else None

    def _node_name(self, instance: Json) -> str:
        if not self._settings.use_provider_id:
            return str(instance["PrivateDnsName"])
        provider_id = f"aws:///{instance['Placement']['AvailabilityZone']}/{instance['InstanceId']}"
        nodes = self.context.kube.call("GET", "/api/v1/nodes")["items"]
        return next((n["metadata"]["name"] for n in nodes if n["spec"].get("providerID") == provider_id), "")

    def _cordon(self, name: str, event: events.Event) -> bool:
        """Cordon the node, with the event's taint where that is asked for; False when there is no such node."""
        path = f"/api/v1/nodes/{name}"
        node = self.context.kube.get(path)
        if node is None:
            self.log.error("node '%s' not found in the cluster", name)
            return False
        spec: dict[str, t.Any] = {"unschedulable": True}
        if self._settings.taint_node and event.taint:
            taint = {"key": event.taint, "value": event.identifier[:TAINT_VALUE_LENGTH], "effect": self._settings.taint_effect}
            spec["taints"] = [*(each for each in node["spec"].get("taints") or () if each["key"] != event.taint), taint]
        self.context.kube.merge(path, {"spec": spec})
        self.log.info("Node successfully cordoned: %s", name)
        return True

    def _go_on(self, identifier: str, drain: _Drain) -> None:
        left = [] if self._settings.cordon_only else [pod for name in drain.nodes for pod in self._pods(name)]
        if not self._settings.delete_local_data and any("emptyDir" in v for pod in left for v in pod["spec"].get("volumes") or ()):
            del self._drains[identifier]
            self.log.error("There was a problem while trying to cordon and drain the node: cannot delete Pods with local storage")
            return
        for pod in left:
            if not pod["metadata"].get("deletionTimestamp"):
                evict(self.context, pod)
        if not left:
            if drain.event.hook is not None:
                self._autoscaling.complete_lifecycle_action(**drain.event.hook)
            self._delete(drain.receipt)
            del self._drains[identifier]
            self.log.info("Node successfully cordoned and drained: %s", ", ".join(drain.nodes))
        elif self.context.clock.seconds() > drain.began + self._settings.drain_seconds:
            del self._drains[identifier]
            names = ", ".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in left)
            self.log.error("There was a problem while trying to cordon and drain the node: still there: %s", names)

    def _pods(self, node: str) -> list[Json]:
        """The pods that have to leave: neither ended, nor static, nor a DaemonSet's, nor the handler itself."""
        found = self.context.kube.call("GET", "/api/v1/pods", params={"fieldSelector": f"spec.nodeName={node}"})["items"]
        return [pod for pod in found if self._leaves(pod)]

    def _leaves(self, pod: Json) -> bool:
        metadata = pod["metadata"]
        owners = {owner["kind"] for owner in metadata.get("ownerReferences") or () if owner.get("controller")}
        stays = MIRROR in (metadata.get("annotations") or {}) or (self._settings.ignore_daemon_sets and "DaemonSet" in owners)
        own = (metadata["namespace"], metadata["name"]) == self._settings.own_pod
        return not stays and not own and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")

    def _delete(self, receipt: str) -> None:
        self._sqs.delete_message(QueueUrl=self._settings.queue_url, ReceiptHandle=receipt)
