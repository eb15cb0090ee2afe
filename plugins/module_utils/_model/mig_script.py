# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The script that cuts the GPUs of an Amazon Linux node before its kubelet starts, as text and back to the layout. Pure.

GPU instances are gone after a reboot, so the script leaves a systemd unit that makes them at every boot; kubelet and what starts it require
the unit, so that a node which joins the cluster has its layout, and one that cannot have it never joins. Only what the image has is used.

Sources: awslabs/amazon-eks-ami, templates/al2023: nodeadm-run.service starts after cloud-final.service, which runs scripts of user data, and
starts and enables kubelet.service; the NVIDIA units are not ordered after here, because releases differ in what those wait for, so the
script waits for the driver itself. NVIDIA MIG User Guide: clients of the GPUs have to be stopped for a change of the mode; where a GPU
cannot be reset (A100 in a virtual machine) the mode is pending until a reboot, as bottlerocket-kernel-kit's nvidia-migmanager has it too;
larger instances are made first, as small ones could stand in their way. nvidia-smi mig -h: a profile tuple is a profile's name and, after a
colon, where it is placed; by itself the driver chooses each place without those that come after in view.
"""

from __future__ import annotations

import json
import re
import string
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES, misfit, pack

Layout = t.Mapping[str, int]

_LAYOUT = re.compile(r"^# layout of each GPU: (\{.*\})$", re.MULTILINE)

_SCRIPT = string.Template(
    r"""#!/bin/bash
# gpuops.eks: Multi-Instance GPU, in force before kubelet starts.
# layout of each GPU: $layout
set -euo pipefail

install -d -m 0755 /etc/gpuops /var/lib/gpuops
cat >/etc/gpuops/mig.sh <<'GPUOPS_MIG'
#!/bin/bash
set -euo pipefail

readonly rebooted=/var/lib/gpuops/mig-rebooted
readonly clients=(set-nvidia-clocks.service nvidia-dcgm.service dcgm.service nvidia-persistenced.service)

say() { echo "gpuops-mig: $$*"; }
fail() { say "$$*; kubelet stays down"; exit 1; }

wait_for_driver() {
  for _try in {1..60}; do
    if nvidia-smi -L >/dev/null 2>&1; then return; fi
    sleep 5
  done
  fail "nvidia-smi finds no GPU"
}

each_gpu_is() {
  local modes
  modes=$$(nvidia-smi --query-gpu="mig.mode.$$1" --format=csv,noheader) || return 1
  [[ -n $$modes && -z $$(grep -vx "$$2" <<<"$$modes" || true) ]]
}

# GPU instances of a profile on all GPUs
made() { nvidia-smi mig -lgi 2>/dev/null | grep -cF " MIG $$1 " || true; }

in_force() {
  local gpus
  gpus=$$(nvidia-smi -L | grep -c '^GPU ')
  each_gpu_is current Enabled || return 1
$checks
  # each with its compute instance, and no other
  [[ $$(nvidia-smi -L | grep -cF ' MIG ' || true) -eq $$((gpus * $total)) ]]
}

enable_mode() {
  if each_gpu_is current Enabled; then return; fi
  nvidia-smi -mig 1 || say "nvidia-smi -mig 1 ended with $$?"
  if each_gpu_is current Enabled; then return; fi
  each_gpu_is pending Enabled || fail "the GPUs do not take MIG mode"
  [[ ! -e $$rebooted ]] || fail "MIG mode is still pending after a reboot"
  touch "$$rebooted"
  say "MIG mode is pending: rebooting once"
  systemctl reboot
  sleep infinity  # until the shutdown ends this, so that nothing starts in between
}

mig() { nvidia-smi mig "$$@"; }

clear_all() {
  mig -dci >/dev/null 2>&1 || true  # there may be none
  mig -dgi >/dev/null 2>&1 || true
}

create() {
  clear_all
  if nvidia-smi mig -cgi $instances -C && in_force; then return; fi
  say "the driver placed them so that not all fit: each gets its place"
  clear_all
  mig -cgi $placed -C
}

resume_clients() {
  local unit
  for unit in "$${stopped[@]}"; do systemctl start --no-block "$$unit"; done
}

stopped=()
wait_for_driver
if ! in_force; then
  for unit in "$${clients[@]}"; do
    if systemctl is-enabled --quiet "$$unit" 2>/dev/null; then
      systemctl stop "$$unit"
      stopped=("$$unit" "$${stopped[@]}")
    fi
  done
  trap resume_clients EXIT
  enable_mode
  create
  in_force || fail "the layout is not in force"
fi
rm -f "$$rebooted"
say "in force on each GPU: $instances"
GPUOPS_MIG
chmod 0755 /etc/gpuops/mig.sh

cat >/etc/systemd/system/gpuops-mig.service <<'GPUOPS_MIG'
[Unit]
Description=Multi-Instance GPU layout (gpuops.eks)
Before=nodeadm-run.service kubelet.service

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=900
ExecStart=/bin/bash /etc/gpuops/mig.sh
StandardOutput=journal+console
StandardError=journal+console

[Install]
RequiredBy=nodeadm-run.service kubelet.service
GPUOPS_MIG

systemctl daemon-reload
systemctl enable gpuops-mig.service
systemctl start gpuops-mig.service
"""
)


def render(layout: Layout) -> str:
    """The script for a layout, profile -> instances on each GPU."""
    ordered = sorted((name for name, count in layout.items() if count), key=_size, reverse=True)
    checks = "\n".join(f"  [[ $(made '{name}') -eq $((gpus * {layout[name]})) ]] || return 1" for name in ordered)
    return _SCRIPT.substitute(
        layout=json.dumps(dict(layout), sort_keys=True),
        checks=checks,
        total=sum(layout.values()),
        instances=",".join(name for name in ordered for _each in range(layout[name])),
        placed=",".join(_placed(layout, ordered)),
    )


def parse(script: str) -> dict[str, int]:
    """The layout of a script that ``render`` made; empty where it says none."""
    found = _LAYOUT.search(script)
    return json.loads(found[1]) if found else {}


def _placed(layout: Layout, ordered: t.Sequence[str]) -> list[str]:
    """Profile tuples with legal places. Products whose profiles have the same names have the same places; of a new product there are none."""
    key = next((key for key in PROFILES if misfit(key, layout) is None), None)
    if key is None:
        return [name for name in ordered for _each in range(layout[name])]
    return [f"{name}:{start}" for name, start in pack(key, layout).placed]


def _size(profile: str) -> tuple[int, int, str]:
    """Compute slices, then memory: 3g.20gb comes before 1g.10gb, that before 1g.5gb."""
    compute, _g, rest = profile.partition("g.")
    return int(compute), int(rest.partition("gb")[0]), profile
