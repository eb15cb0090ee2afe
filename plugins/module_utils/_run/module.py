# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""params -> form -> job -> result. The only place that calls exit_json and fail_json."""

from __future__ import annotations

import copy
import typing as t
from dataclasses import dataclass, field

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.amazon.aws.plugins.module_utils.botocore import (
    HAS_BOTO3,
    boto3_conn,
    get_aws_connection_info,
)
from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws, identify
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.prices import pricing_region
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, GpuopsError, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.secrets import kubeconfig_secrets
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import form_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Wait
from ansible_collections.gpuops.eks.plugins.module_utils._run.apply import apply
from ansible_collections.gpuops.eks.plugins.module_utils._run.kubernetes import Cluster, connect, find_cluster, presigned_token

KUBERNETES = "kubernetes:"
# Services of which a run only takes figures, and which a private network may not reach: asked once, briefly.
_FIGURES = ("pricing", "service-quotas")
_BRIEFLY = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 1}}

Params = t.Mapping[str, t.Any]
Validate = t.Callable[[Params], list[Fault]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job found and did: the plan (None: the module only reads), and its typed result (``{"cluster": {...}}``)."""

    plan: Plan | None = field(default_factory=Plan)
    result: t.Mapping[str, t.Any] = field(default_factory=dict)
    facts: t.Mapping[str, t.Any] | None = None


class _Module(AnsibleModule):
    """AnsibleModule that refuses bad input with every fault at once instead of the first one."""

    def __init__(self, spec: ArgumentSpec, validate: Validate) -> None:
        self._spec = spec
        self._validate = validate
        self._given: Params = {}
        self._ready = False
        super().__init__(supports_check_mode=True, **spec.module_arguments())
        self._ready = True
        # Of what was given: AnsibleModule makes text of a dictionary without a word.
        if faults := form_faults(spec.options, self._given) + validate(self.params):
            self.fail(InvalidInput(_each_path_once(faults)))

    def _load_params(self) -> None:
        super()._load_params()
        self._given = copy.deepcopy(self.params)

    def _log_invocation(self) -> None:
        # The secrets of a kubeconfig that is given as a dictionary: to mask the whole option would mask words such as "v1" everywhere.
        self.no_log_values.update(kubeconfig_secrets((self.params.get("kubernetes") or {}).get("kubeconfig")))
        super()._log_invocation()

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        if not self._ready and self._given:
            faults = form_faults(self._spec.options, self._given) + self._validate(self._given)
            if faults:
                self._ready = True
                self.fail(InvalidInput(_each_path_once(faults)))
        super().fail_json(msg=msg, **kwargs)

    def fail(self, error: GpuopsError, **kwargs: t.Any) -> t.NoReturn:
        """End with the error's own words; its causes only reach the log at high verbosity."""
        super().fail_json(msg=str(error), exception=error if self._verbosity >= 3 else None, **error.result(), **kwargs)


def _each_path_once(faults: t.Sequence[Fault]) -> list[Fault]:
    """The first fault of each path."""
    return list({fault.path: fault for fault in reversed(faults)}.values())[::-1]


class Run:
    """One module run: its parameters, and the services that it may talk to."""

    def __init__(self, module: _Module) -> None:
        self._module = module
        self._aws: Aws | None = None
        self._kubernetes: Kubernetes | None = None
        self._cluster: Cluster | None = None
        self.params: Params = module.params
        self.check_mode: bool = module.check_mode
        self.progress: list[str] = []

    def tell(self, line: str) -> None:
        """Add a line of progress, in the words of the service."""
        self.progress.append(line)

    def warn(self, message: str) -> None:
        self._module.warn(message)

    @property
    def command(self) -> t.Callable[..., tuple[int, str, str]]:
        """Runs a program of this machine: (code, output, errors)."""
        run_command: t.Callable[..., tuple[int, str, str]] = self._module.run_command
        return run_command

    @property
    def aws(self) -> Aws:
        """The way to AWS; made when first asked for, so that bad input never builds a client."""
        if self._aws is None:
            self._aws = Aws(
                self._client,
                interval=self.params.get("wait_interval") or 15.0,
                timeout=self.params.get("wait_timeout") or 1800.0,
                tell=self.tell,
            )
        return self._aws

    @property
    def cluster(self) -> Cluster | None:
        """The EKS cluster that the option cluster_name names, as eks:DescribeCluster returns it; read once. None where there is none."""
        name = self.params.get("cluster_name")
        if self._cluster is None and name:
            self._cluster = find_cluster(self.aws, name)
        return self._cluster

    @property
    def kubernetes(self) -> Kubernetes:
        """The way to the API server; GpuopsError where the cluster does not exist or has no endpoint yet."""
        if (found := self.find_kubernetes()) is None:
            name = self.params["cluster_name"]
            status = f"is {self._cluster['status']} and has no endpoint" if self._cluster else f"does not exist in {self.region}"
            raise GpuopsError(
                f"EKS cluster {name} {status}.", hint="Make it first: gpuops.eks.eks_cluster, or role gpuops.eks.eks_cluster."
            )
        return found

    def find_kubernetes(self) -> Kubernetes | None:
        """Like ``kubernetes``, but None where the cluster does not exist or has no endpoint yet: in check mode it may be planned."""
        if self._kubernetes is None:
            options = self.params.get("kubernetes")
            connection = connect(None if options else self.cluster, options, self._token, self._module.no_log_values.add)
            if connection is not None:
                self._kubernetes = Kubernetes(
                    connection,
                    interval=self.params.get("wait_interval") or 15.0,
                    timeout=self.params.get("wait_timeout") or 600.0,
                    tell=self.tell,
                )
        return self._kubernetes

    @property
    def region(self) -> str:
        region: str | None = get_aws_connection_info(self._module)[0]
        if region is None:
            raise GpuopsError("No AWS region is set.", hint="Set the option region (in inventories: eks_cluster_region).")
        return region

    def owner(self, cluster_name: str) -> Owner:
        """The mark of what this run makes; one read (sts:GetCallerIdentity)."""
        return identify(self.aws, cluster_name=cluster_name, region=self.region)

    def apply(self, plan: Plan, *, bindings: t.Mapping[str, str] | None = None, every_wait: bool = False) -> dict[str, str]:
        """Make the plan's calls, unless in check mode. Returns planned id -> real id.

        ``every_wait``: the plan has only those waits that the user wants, whatever the option wait says for the others.
        """
        if self.check_mode:
            return {}
        return apply(plan, self._call, self._need if every_wait else self._wait, need=self._need, bindings=bindings)

    def _call(self, action: str, request: dict[str, t.Any]) -> t.Mapping[str, t.Any]:
        service = self.kubernetes if action.startswith(KUBERNETES) else self.aws
        return service.call(action, request)

    def _need(self, wait: Wait) -> t.Mapping[str, t.Any] | None:
        if wait.waiter.startswith(KUBERNETES):
            self.kubernetes.wait(wait)
            return None
        return self.aws.wait(wait)

    def _wait(self, wait: Wait) -> t.Mapping[str, t.Any] | None:
        return self._need(wait) if self.params.get("wait", True) else None

    def _token(self, cluster_name: str) -> str:
        return presigned_token(get_aws_connection_info(self._module)[2], region=self.region, cluster_name=cluster_name)

    def _client(self, service: str) -> t.Any:
        region, endpoint, connection = get_aws_connection_info(self._module)
        if service == "pricing" and region:
            region = pricing_region(region)
        if service in _FIGURES:
            connection["config"] = _BRIEFLY
        return boto3_conn(self._module, conn_type="client", resource=service, region=region, endpoint=endpoint, **connection)


Job = t.Callable[[Run], Outcome]


def _no_faults(params: Params) -> list[Fault]:
    return []


def run_module(spec: ArgumentSpec, job: Job, *, validate: Validate = _no_faults) -> None:
    """Validate the form (before any client exists), run the job, report its outcome or its error."""
    module = _Module(spec, validate)
    if not HAS_BOTO3:
        module.fail(GpuopsError(missing_required_lib("boto3 and botocore")))
    run = Run(module)
    try:
        outcome = job(run)
    except GpuopsError as error:
        module.fail(error, progress=run.progress)
    for warning in outcome.plan.warnings if outcome.plan else ():
        module.warn(warning)
    module.exit_json(**_result(run, outcome))


def _result(run: Run, outcome: Outcome) -> dict[str, t.Any]:
    if outcome.facts is not None:
        return {"changed": False, "ansible_facts": dict(outcome.facts)}
    plan = outcome.plan
    if plan is None:
        return {"changed": False, **outcome.result}
    return {
        "changed": bool(plan.steps),
        "diff": {"before": dict(plan.before), "after": dict(plan.after)},
        "plan": plan.to_list(),
        "progress": run.progress,
        **outcome.result,
    }
