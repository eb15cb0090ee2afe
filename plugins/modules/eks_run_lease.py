#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_run_lease
short_description: One run at a time on an EKS cluster
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Takes the lease of a cluster, extends it, or releases it. A run that finds it held by another one fails, and says whose that is and since when.
  - A lease is an SSM parameter for each generation, C(/gpuops.eks/CLUSTER/lease/N), created without overwrite, so that of several runs only one
    creates the next. It is there before and after the cluster.
  - A lease is free when it was released, when it has expired, or when the process that took it was on this machine and is gone. Otherwise
    O(break_lease=true) takes it.
  - The process of a run is the ansible-playbook that the module runs below. Tasks of one run share the lease. So the module has to run on the
    controller, by a local connection; on another machine each task counts as a run of its own.
  - A holder that comes too late to extend it takes it again, unless another run has.
  - Never reports a change, because a lease is not state that a user asks for.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - gpuops.eks._attributes
  - gpuops.eks._attributes.actiongroup
attributes:
  check_mode:
    support: full
    details:
      - Reads the lease and takes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - Held again by the same run, the lease is extended.
options:
  cluster_name:
    description:
      - Name of the cluster. It need not exist.
    type: str
    required: true
  state:
    description:
      - V(held) takes the lease, or extends it where this run holds it. V(released) gives it up where this run holds it. V(read) only looks.
    type: str
    choices: [held, released, read]
    default: held
  holder:
    description:
      - Who runs, for the sentence that other runs fail with.
    type: str
    default: unknown
  operation:
    description:
      - What is run, for the same sentence.
    type: str
    default: a run
  duration:
    description:
      - Seconds until the lease expires when it is not extended. Clocks of machines that run playbooks have to agree within minutes.
    type: int
    default: 2700
  break_lease:
    description:
      - Take the lease whoever holds it. Two runs at once undo each other's work, so only where the other one is certainly dead.
    type: bool
    default: false
requirements:
  - python >= 3.10
  - boto3 >= 1.40.0
  - botocore >= 1.40.0
"""

EXAMPLES = r"""
- name: Keep other runs out
  gpuops.eks.eks_run_lease:
    cluster_name: demo
    region: us-west-2
    holder: "{{ lookup('ansible.builtin.env', 'USER') }}"
    operation: maintenance

- name: Let other runs in
  gpuops.eks.eks_run_lease:
    cluster_name: demo
    region: us-west-2
    state: released
"""

RETURN = r"""
lease:
  description: The newest lease of the cluster; null where there has never been one.
  returned: success
  type: dict
  contains:
    parameter:
      description: Name of its SSM parameter.
      type: str
      sample: /gpuops.eks/demo/lease/3
    generation:
      description: How many leases the cluster has had.
      type: int
      sample: 3
    held:
      description: Whether this run holds it.
      type: bool
      sample: true
    holder:
      description: Who has taken it.
      type: str
      sample: AWX job 17 of anna
    operation:
      description: What for.
      type: str
      sample: site
    host:
      description: Name of the machine that the run is on.
      type: str
      sample: runner-1
    pid:
      description: Number of the run's process.
      type: int
      sample: 4711
    taken_at:
      description: When it was taken, in UTC.
      type: str
      sample: "2026-11-24T09:00:00Z"
    expires_at:
      description: Until when it is held unless it is extended, in UTC.
      type: str
      sample: "2026-11-24T09:45:00Z"
    released:
      description: Whether it was given up.
      type: bool
      sample: false
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.lease import DEFAULT_DURATION, lease_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.lease import lease_job
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["held", "released", "read"], "default": "held"},
        "holder": {"type": "str", "default": "unknown"},
        "operation": {"type": "str", "default": "a run"},
        "duration": {"type": "int", "default": DEFAULT_DURATION},
        "break_lease": {"type": "bool", "default": False},
    }
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS), lease_job, validate=lease_faults)


if __name__ == "__main__":
    main()
