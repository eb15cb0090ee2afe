# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What can be asked of Multi-Instance GPU, and the file that NVIDIA's mig-parted takes. Pure.

Neither the device plugin nor mig-parted looks at a layout: profiles that no GPU has, and those that do not fit together, end at the node.
"""

from __future__ import annotations

import difflib
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES, misfit, products_with
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import SOURCE as PROFILES_SOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import (
    MESSAGE_SOURCE,
    TIME_SLICES,
    GpuResources,
    Mig,
    Sharing,
    sharing_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.yaml_text import yaml_text

MIG_OPTIONS: dict[str, dict[str, t.Any]] = {
    "strategy": {"type": "str", "choices": ["single", "mixed"], "default": "mixed"},
    "layout": {"type": "dict", "required": True},
}

_SINGLE_SOURCE = "NVIDIA k8s-device-plugin, strategy single: more than one MIG device type present on node"
_MPS_SOURCE = "NVIDIA k8s-device-plugin, internal/plugin/mps.go: sharing using MPS is not supported for MIG devices"
_LAYOUT_SOURCE = "NVIDIA mig-parted, mig-devices"


def mig_faults(params: t.Any, path: str) -> list[Fault]:
    """What is wrong with a ``mig`` block beyond its types (form_faults finds those)."""
    layout = params.get("layout") if isinstance(params, t.Mapping) else None
    if not isinstance(layout, t.Mapping):
        return []
    where = join(path, "layout")
    if not layout:
        allowed = "at least one profile with its number of instances on each GPU, such as 1g.5gb: 7; leave mig out for whole GPUs"
        return [Fault(path=where, value={}, allowed=allowed, source=_LAYOUT_SOURCE)]
    faults = [fault for profile, count in layout.items() for fault in _entry_faults(str(profile), count, where)]
    if params.get("strategy") == "single" and len(layout) > 1:
        allowed = "one profile with strategy single; or strategy mixed, which advertises each profile as a resource of its own"
        faults.append(Fault(path=where, value=dict(layout), allowed=allowed, source=_SINGLE_SOURCE))
    return faults or _misfits({str(profile): int(count) for profile, count in layout.items()}, where)


def sharing_of_mig_faults(sharing: t.Any, mig: t.Any, path: str) -> list[Fault]:
    """MIG instances can be shared by time slicing alone, and not without end. ``path`` is that of the ``sharing`` block."""
    if not mig or not isinstance(sharing, t.Mapping):
        return []
    if sharing.get("strategy") == "mps":
        allowed = "none or time_slicing with mig, or no mig: MPS shares whole GPUs only"
        return [Fault(path=join(path, "strategy"), value="mps", allowed=allowed, source=_MPS_SOURCE)]
    replicas = sharing.get("replicas")
    if sharing_faults(sharing, path) or mig_faults(mig, path) or not str(replicas).isdigit():
        return []
    shares = max(GpuResources(sharing=Sharing.from_params(sharing), mig=Mig.from_params(mig)).advertised(1).values())
    if shares <= TIME_SLICES:
        return []
    allowed = f"so many that the instances of a GPU have at most {TIME_SLICES} shares of one resource, not {shares}"
    return [Fault(path=join(path, "replicas"), value=replicas, allowed=allowed, source=MESSAGE_SOURCE)]


def _entry_faults(profile: str, count: t.Any, where: str) -> list[Fault]:
    found = f"{where}.{profile}"
    if not products_with(profile):
        return [Fault(path=found, value=profile, allowed=_known(profile), source=PROFILES_SOURCE)]
    number = None if isinstance(count, (bool, float)) or not str(count).isdigit() else int(count)
    if number:
        return []
    return [Fault(path=found, value=count, allowed="an integer of at least 1, instances on each GPU", source=_LAYOUT_SOURCE)]


def _known(profile: str) -> str:
    """The profile that was meant, else all of them."""
    known = list(dict.fromkeys(name for profiles in PROFILES.values() for name in profiles))
    meant = profile.lower().replace("nvidia.com/", "").removeprefix("mig-")
    spelled = next((name for name in known if meant == name.replace("+", ".")), None)
    if spelled and spelled != meant:
        return f"did you mean {spelled!r}? A dot in place of + is how the resource is spelled, not the profile"
    near = difflib.get_close_matches(meant, known, n=1)
    return f"no such profile; did you mean {near[0]!r}?" if near else f"no such profile; known are {', '.join(sorted(known))}"


def _misfits(layout: t.Mapping[str, int], where: str) -> list[Fault]:
    """A layout that no product takes, with the reason of each product that has its first profile."""
    reasons = {key: misfit(key, layout) for key in PROFILES}
    if None in reasons.values():
        return []
    near = products_with(next(iter(layout)))
    allowed = f"a layout that some GPU takes: {'; '.join(str(reasons[key]) for key in near)}"
    return [Fault(path=where, value=dict(layout), allowed=allowed, source=PROFILES_SOURCE)]


def products_of(layout: t.Mapping[str, int]) -> tuple[str, ...]:
    """The names of the products, as GPU feature discovery labels them, that take this layout."""
    return tuple(GPUS[key].product for key in PROFILES if misfit(key, layout) is None)


def parted_file(layouts: t.Mapping[str, t.Mapping[str, int]]) -> str:
    """The configuration file of NVIDIA's mig-parted (``config.yaml`` of its ConfigMap): each layout by its name, the same on every GPU.

    An empty layout turns MIG off. Source: NVIDIA mig-parted, api/spec/v1.
    """
    return yaml_text({"version": "v1", "mig-configs": {name: [_parted(layout)] for name, layout in layouts.items()}})


def _parted(layout: t.Mapping[str, int]) -> dict[str, t.Any]:
    every = {"devices": "all", "mig-enabled": bool(layout)}
    return {**every, "mig-devices": dict(layout)} if layout else every
