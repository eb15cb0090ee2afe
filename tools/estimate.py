#!/usr/bin/env python3
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what the clusters of inventories cost in a month, from the prices that the collection ships: no credentials, no network.

An inventory is given as such, or as any file of it, as pre-commit gives the files that changed. It ends with 1 where an inventory cannot
be read or its pools have faults. A price that is not known is shown as ?, never as 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cache import ROOT

NAMES = (
    "eks_cluster_name",
    "eks_cluster_region",
    "eks_cluster_secrets_encryption",
    "eks_cluster_secrets_key_arn",
    "eks_cluster_volumes_encryption",
    "eks_cluster_volumes_key_arn",
    "eks_network_interface_endpoints",
    "eks_network_nat",
    "eks_network_vpc_id",
    "eks_network_zone_count",
    "eks_network_zones",
    "gpu_nodepools",
)
PRIVATE_ENDPOINTS = "{{ [] | gpuops.eks.private_endpoints }}"  # what the role eks_network takes where there is no way out
GROUPS = ("group_vars", "host_vars")
LEFT_OUT = "Not in it: data transfer, what NAT gateways process, logs, load balancers, volumes of workloads, discounts and taxes."


class Unable(Exception):
    """There is no estimate; the message says why."""


def ansible_python() -> str | None:
    """Return the Python of the ansible-playbook in PATH: it has ansible-core where this one has not."""
    program = shutil.which("ansible-playbook")
    if program is None:
        return None
    with open(program, "rb") as handle:
        first = handle.readline().decode("utf-8", "replace").strip()
    python = first[2:].strip() if first.startswith("#!") else ""
    return python if os.access(python, os.X_OK) else None


def find_ansible() -> None:
    """Make Ansible and this collection importable, by the other Python if need be."""
    if importlib.util.find_spec("ansible") is None:
        python = ansible_python()
        if python is None or Path(python) == Path(sys.executable):
            raise Unable("ansible-core is neither in this Python nor in PATH: install it, or activate the environment that has it.")
        os.execv(python, [python, *sys.argv])
    collections = ROOT / "collections"
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = os.pathsep.join(filter(None, [str(collections), os.environ.get("ANSIBLE_COLLECTIONS_PATH")]))
    from setup import link

    link(collections / "ansible_collections" / "gpuops" / "eks", os.path.join("..", "..", ".."))
    sys.path.insert(0, str(collections))


def inventory_of(path: Path) -> Path:
    """Return the inventory that a file belongs to: the directory that holds its group_vars or host_vars, else what was given."""
    for parent in path.parents:
        if parent.name in GROUPS:
            return parent.parent
    if path.is_file() and any((path.parent / name).is_dir() for name in GROUPS):
        return path.parent
    return path


def clusters(inventory: Path) -> Iterator[dict[str, Any]]:
    """Yield the variables of each host that is a cluster, with nothing left to fill in."""
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.template import Templar
    from ansible.vars.manager import VariableManager

    if not inventory.exists():
        raise Unable(f"{inventory} is not there.")
    init_plugin_loader()
    loader = DataLoader()
    try:
        hosts = InventoryManager(loader=loader, sources=[str(inventory)])
        manager = VariableManager(loader=loader, inventory=hosts)
        for host in hosts.get_hosts():
            given = manager.get_vars(host=host)
            if "eks_cluster_name" in given:
                templar = Templar(loader=loader, variables=given)
                found = {name: templar.template(given[name]) for name in NAMES if name in given}
                if found.get("eks_network_interface_endpoints") is None and found.get("eks_network_nat") == "none":
                    found["eks_network_interface_endpoints"] = templar.template(trusted(PRIVATE_ENDPOINTS))
                yield found
    except AnsibleError as error:
        raise Unable(f"{inventory}: {error}") from error


def trusted(text: str) -> str:
    """Return a template that Ansible takes for one: from 2.19 on it fills in only what is marked so."""
    try:
        from ansible.template import trust_as_template
    except ImportError:  # ansible-core 2.18
        return text
    return trust_as_template(text)


def report(inventory: Path, variables: Mapping[str, Any], region: str | None) -> Iterator[str]:
    """Yield the lines of one cluster."""
    from ansible_collections.gpuops.eks.plugins.module_utils._catalog.on_demand import TABLES
    from ansible_collections.gpuops.eks.plugins.module_utils._model.inventory import inventory_faults
    from ansible_collections.gpuops.eks.plugins.module_utils._plan.estimate import estimate_table, inventory_estimate

    faults = [fault for fault in inventory_faults(variables, ["eks_preflight"]) if fault.path.startswith("gpu_nodepools")]
    if faults:
        raise Unable("\n".join([f"{inventory}: the pools of {variables['eks_cluster_name']} have faults:", *map(str, faults)]))
    found = inventory_estimate(variables, len(variables.get("eks_network_interface_endpoints") or ()), region)
    own = str(variables["eks_cluster_region"])
    other = f", with prices of {region}" if region and region != own else ""
    yield f"{variables['eks_cluster_name']} ({inventory}): {own}{other}"
    yield ""
    yield from (f"  {line}" for line in estimate_table(found))
    yield ""
    if found["as_of"]:
        yield f"  On-Demand prices of {found['as_of']}, a month of 730 hours."
    else:
        yield f"  No prices of instances are shipped for {region or own}, so that ? is not known; they are for {', '.join(TABLES)}."
        yield "  --region us-east-1 (make: REGION=us-east-1) gives an idea, and the pre-flight asks the Pricing API."
    yield f"  {LEFT_OUT}"
    yield ""


def run(paths: Sequence[Path], region: str | None) -> None:
    """Print the estimates of these inventories."""
    find_ansible()
    for inventory in dict.fromkeys(inventory_of(path) for path in paths):
        found = list(clusters(inventory))
        if not found:
            raise Unable(f"{inventory}: no host has eks_cluster_name, so that there is no cluster.")
        for variables in found:
            print("\n".join(report(inventory, variables, region)))


def main() -> int:
    """Print the estimates; 1 with a sentence where that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--region", help="take the prices of this region instead of the cluster's own")
    parser.add_argument("inventory", nargs="+", type=Path, help="an inventory, or a file of one")
    arguments = parser.parse_args()
    try:
        run(arguments.inventory, arguments.region)
    except Unable as error:
        sys.stderr.write(f"estimate: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
