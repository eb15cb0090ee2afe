"""What a controller is to the lab: which pods are its own, and how it is started and stopped."""

from __future__ import annotations

import abc
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from lab.clock import Clock
from lab.contracts import ClusterRef
from lab.controllers import podspec
from lab.kubernetes.client import Json, Kube
from lab.supervisor import Supervisor


class CannotStart(RuntimeError):
    """The program cannot start in this pod; the message says why, in one sentence, and becomes an event of the pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Temporary keys of the role that a pod takes."""

    role_arn: str
    access_key_id: str
    secret_access_key: str
    session_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that a program has in its pod, and what the lab itself lends it."""

    cluster: ClusterRef
    pod: Json
    container: Json
    command: tuple[str, ...]  # the container's command and arguments, $(NAME) filled in
    environment: Mapping[str, str]  # the container's own, valueFrom and envFrom resolved
    credentials: Credentials
    endpoint: str  # of the simulated AWS
    kube: Kube  # as the pod's service account
    kubeconfig: Path  # the same as a file
    directory: Path  # of the cluster's files
    name: str  # what its process is recorded as
    log: Path
    supervisor: Supervisor
    clock: Clock

    def client(self, service: str, user_agent: str) -> t.Any:
        """A boto3 client with the role's keys, whose calls the request log shows with ``user_agent``."""
        keys = self.credentials
        session: t.Any = boto3.session.Session(keys.access_key_id, keys.secret_access_key, keys.session_token, self.cluster.region)
        config = Config(
            user_agent_extra=user_agent, retries={"max_attempts": 3}, connect_timeout=5, read_timeout=60, inject_host_prefix=False
        )
        return session.client(service, endpoint_url=self.endpoint, config=config)

    def aws_environment(self) -> dict[str, str]:
        """The variables by which every AWS SDK finds region, endpoint and keys, and nothing of the machine's own."""
        return {
            "AWS_REGION": self.cluster.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_access_key,
            "AWS_SESSION_TOKEN": self.credentials.session_token,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class Running(t.Protocol):
    """A program that was started."""

    def poll(self) -> str | None:
        """None while it runs, else why it ended."""

    def stop(self) -> None:
        """End it; returns when it has ended."""


class Controller(abc.ABC):
    """One kind of program. ``repository`` is how the image's repository ends; ``name`` that of its log and process."""

    name: t.ClassVar[str]
    repository: t.ClassVar[str]

    def matches(self, pod: Json) -> bool:
        """Whether a container of the pod runs this program."""
        return podspec.container_of(pod, self.repository) is not None

    @abc.abstractmethod
    def start(self, context: Context) -> Running:
        """Start it, without waiting until it is ready; raises CannotStart."""
