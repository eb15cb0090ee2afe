# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Argument specifications that carry their own rules, and the options that several modules share."""

from __future__ import annotations

import typing as t
from copy import deepcopy
from dataclasses import dataclass, field

from ansible_collections.amazon.aws.plugins.module_utils.modules import aws_argument_spec

Options = dict[str, dict[str, t.Any]]

KUBERNETES_OPTIONS: Options = {
    "kubeconfig": {"type": "raw"},  # its secrets are masked one by one (_run.module)
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "ca_cert": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
    "validate_certs": {"type": "bool"},
    "proxy": {"type": "str"},
}


@dataclass(frozen=True, kw_only=True)
class ArgumentSpec:
    """A module's options with their dependencies; ``extend`` adds to both."""

    options: Options
    required_if: tuple[tuple[t.Any, ...], ...] = ()
    required_one_of: tuple[tuple[str, ...], ...] = ()
    required_together: tuple[tuple[str, ...], ...] = ()
    required_by: t.Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mutually_exclusive: tuple[tuple[str, ...], ...] = ()

    def extend(self, options: Options) -> ArgumentSpec:
        merged = {**deepcopy(options), **self.options}
        return ArgumentSpec(
            options=merged,
            required_if=self.required_if,
            required_one_of=self.required_one_of,
            required_together=self.required_together,
            required_by=self.required_by,
            mutually_exclusive=self.mutually_exclusive,
        )

    def module_arguments(self) -> dict[str, t.Any]:
        """Keyword arguments of AnsibleModule."""
        return {
            "argument_spec": deepcopy(self.options),
            "required_if": [list(rule) for rule in self.required_if],
            "required_one_of": [list(rule) for rule in self.required_one_of],
            "required_together": [list(rule) for rule in self.required_together],
            "required_by": dict(self.required_by),
            "mutually_exclusive": [list(rule) for rule in self.mutually_exclusive],
        }


def aws_spec(spec: ArgumentSpec, *, wait_timeout: int | None = None, kubernetes: bool = False) -> ArgumentSpec:
    """The spec with the AWS options of amazon.aws; with wait options when the module waits; with ``kubernetes`` when it talks to a cluster."""
    options: Options = aws_argument_spec()
    if wait_timeout is not None:
        options["wait"] = {"type": "bool", "default": True}
        options["wait_timeout"] = {"type": "int", "default": wait_timeout}
        options["wait_interval"] = {"type": "float", "default": 15.0}
    if kubernetes:
        options["kubernetes"] = {"type": "dict", "options": deepcopy(KUBERNETES_OPTIONS)}
    return spec.extend(options)
