# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab reads configuration files as NVIDIA's programs do, the odd ones above all: it says what a cluster here makes of them."""

from __future__ import annotations

import json
import random
import typing as t
from collections.abc import Sequence

import pytest

from lab.binaries import DevicePluginBinaries
from lab.nodes import sharing
from tests.oracle.machines import Machine
from tests.oracle.programs import Kubelet, Parsed, parse
from tests.oracle.test_accepted_but_wrong import ACCEPTED, BOTH

ABSENT = object()
ODD = (
    "",
    "version: v1\n",
    "version: v1\nsharing:\n\ttimeSlicing: {}\n",
    "version: v1\n  foo: [",
    "- version: v1",
    "hello",
    "42",
    '{"version":"v1","sharing":{"timeSlicing":{"resources":[{"name":"nvidia.com/gpu","replicas":4}]}}}',
    "version: v1\n---\nversion: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 8}]}}",
    "sharing: {timeslicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}",
    "Sharing: {TIMESLICING: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}",
    "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, Replicas: 4}]}}",
    "sharing: {timeSlicing: null}",
    "sharing: {mps: null}",
    "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 8}, {name: gpu, replicas: 4}]}}",
    "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpux, replicas: 4}]}}",
    "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 40000}]}}",
    "flags: {failOnInitError: no, migStrategy: null}",
)


def verdict(text: str) -> sharing.Config | str:
    try:
        return sharing.parse(text)
    except sharing.ConfigRefused as error:
        return str(error)


def differs(text: str, parsed: Parsed) -> str:
    """How the lab understands a file in another way than NVIDIA's parser."""
    found = verdict(text)
    if isinstance(found, str) or parsed.error:
        return "" if isinstance(found, str) and parsed.error else f"lab: {found}; parser: {parsed.error or parsed.config}"
    block = found.sharing
    names = {
        f"{one.name}{'.shared' if block and block.rename_by_default else ''}": one.replicas for one in (block.resources if block else ())
    }
    one_only = bool(block and (block.fail_requests or block.strategy == "mps"))  # the lab sets it for MPS when it knows the version
    lab = (found.strategy, names, bool(block and block.rename_by_default), one_only, found.mig_strategy)
    real = (
        parsed.strategy,
        dict(parsed.shared),
        parsed.sharing.get("renameByDefault", False),
        parsed.sharing.get("failRequestsGreaterThanOne", False),
        parsed.flags.get("migStrategy", "none"),
    )
    return "" if lab == real else f"lab: {lab}; parser: {real}"


def some(generator: random.Random, usual: Sequence[t.Any], odd: Sequence[t.Any]) -> t.Any:
    return generator.choice(usual) if generator.random() < 0.8 else generator.choice([*odd, ABSENT])


def mapping(**values: t.Any) -> dict[str, t.Any]:
    return {key: value for key, value in values.items() if value is not ABSENT}


def entry(generator: random.Random) -> t.Any:
    usual = mapping(
        name=some(
            generator,
            ["nvidia.com/gpu", "gpu", "nvidia.com/mig-1g.5gb"],
            ["GPU", "amd.com/gpu", "", "a_b", None, 5, "x" * 60, "mig-1g.5gb+me"],
        ),
        replicas=some(generator, [2, 4, 10], [1, 0, -1, "4", 2.5, 4.0, None, True, []]),
        devices=generator.choice(
            [ABSENT, ABSENT, "all", 2, 0, -1, ["0"], [0, "0:1"], ["foo"], [-1], [1.5], None, True, {}, ["GPU-" + "0" * 8], 1.5]
        ),
        rename=generator.choice([ABSENT, ABSENT, ABSENT, "nvidia.com/mine", "GPU!", None]),
        other=generator.choice([ABSENT, 1]),
    )
    return generator.choice([usual] * 6 + [None, "x", []])


def block(generator: random.Random) -> t.Any:
    usual = mapping(
        renameByDefault=some(generator, [True, False, ABSENT], ["yes", 1, None]),
        failRequestsGreaterThanOne=some(generator, [True, False, ABSENT], ["no", 0, None]),
        resources=some(generator, [[entry(generator)], [entry(generator)], [entry(generator), entry(generator)]], [None, [], {}, "x"]),
        Resources=generator.choice([ABSENT, ABSENT, ABSENT, []]),
    )
    return generator.choice([usual] * 8 + [None, {}, [], "x"])


def document(generator: random.Random) -> str:
    """A file that is nearly right."""
    flags = mapping(
        migStrategy=some(generator, ["none", "single", "mixed", ABSENT], [None, False, 5]),
        failOnInitError=some(generator, [True, False, ABSENT], ["true", 1, None]),
        MPSROOT=generator.choice([ABSENT, "/x"]),
    )
    shared = mapping(
        timeSlicing=some(generator, [block(generator), block(generator), ABSENT], [None]),
        mps=some(generator, [ABSENT, ABSENT, block(generator)], [None]),
    )
    content = mapping(
        version=some(generator, ["v1"], ["v2", 1, True, "", None]),
        flags=some(generator, [flags], [None, [], "x"]),
        sharing=some(generator, [shared], [None, {}, [], "x"]),
        shareing=generator.choice([ABSENT, ABSENT, {}]),
    )
    return json.dumps(content)


@pytest.mark.parametrize("generated", [1_500, pytest.param(20_000, marks=pytest.mark.soak)])
def test_the_lab_reads_files_as_nvidias_parser_does(programs: DevicePluginBinaries, generated: int) -> None:
    generator = random.Random(generated)
    texts = [*ODD, *(case.file for case in (*ACCEPTED, *BOTH)), *(document(generator) for _one in range(generated))]
    answers = parse(programs, texts)
    differences = {text: found for text, parsed in zip(texts, answers, strict=True) if (found := differs(text, parsed))}
    assert differences == {}
    assert 0.2 < sum(not answer.error for answer in answers) / len(answers) < 0.8, "files that are right, and files that are not"


@pytest.mark.parametrize("text", [*ODD, *(case.file for case in (*ACCEPTED, *BOTH))])
def test_the_lab_makes_of_a_file_what_the_plugin_does(node: Kubelet, text: str) -> None:
    plugin = node.plugin(text, Machine(gpus=2), resources=1, until="Retrying in 30s")
    try:
        counts, refused = sharing.advertised(sharing.parse(text), sharing.Gpus(count=2)), ""
    except sharing.ConfigRefused as error:
        counts, refused = {}, str(error)
    assert (plugin.counts, bool(plugin.ended)) == (counts, bool(refused))
    # The words of Go's YAML library, and the fields by which Go's JSON calls a value of a wrong type, are not the lab's.
    assert refused.partition(": yaml: ")[0].partition(" into Go")[0] in plugin.log
