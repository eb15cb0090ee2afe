# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Which image pools get: a release of a family, or one of the user's own, by SSM and EC2."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import LATEST, image_parameter
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool

_MISSING = ("ParameterNotFound",)


class Images:
    """Images by what pools say of them; each question is asked once. ``faults`` are those that do not exist."""

    def __init__(self, aws: Aws, version: str) -> None:
        self._aws = aws
        self._version = version
        self._parameters: dict[str, str | None] = {}
        self.faults: list[Fault] = []

    def image(self, pool: Pool, *, release: str | None = None) -> str | None:
        """Id of the pool's image: its own, or that of ``release``, else of the release that it names, else the newest. None with a fault."""
        ami = pool.ami
        if ami.id:
            return ami.id
        if ami.ssm_parameter:
            return self._parameter(ami.ssm_parameter, pool, "ami.ssm_parameter", ami.ssm_parameter)
        return self._named(pool) if ami.name else self._of_family(pool, "image_id", release)

    def release(self, pool: Pool) -> str | None:
        """What EKS calls the release that the pool names, or the newest (1.36.1-20260724). None with a fault."""
        return self._of_family(pool, "release_version", None)

    def _of_family(self, pool: Pool, what: str, release: str | None) -> str | None:
        wanted = release or pool.ami.release or LATEST
        family = pool.effective_ami_family
        name = image_parameter(family, pool.accelerator, pool.architecture, version=self._version, release=wanted, what=what)
        return self._parameter(name, pool, "ami.release" if pool.ami.release else "ami.family", wanted)

    def _parameter(self, name: str, pool: Pool, option: str, value: str) -> str | None:
        if name not in self._parameters:
            reply = self._aws.find("ssm:GetParameter", {"Name": name}, missing=_MISSING)
            self._parameters[name] = reply["Parameter"]["Value"] if reply else None
        found = self._parameters[name]
        if found is None:
            allowed = f"an image that there is: SSM has no parameter {name}"
            self.faults.append(Fault(path=join(pool.path, option), value=value, allowed=allowed, source="ssm:GetParameter"))
        return found

    def _named(self, pool: Pool) -> str | None:
        request = {"Owners": [pool.ami.owner or "self"], "Filters": [{"Name": "name", "Values": [pool.ami.name]}]}
        found = self._aws.pages("ec2:DescribeImages", "Images", request)
        newest = max(found, key=_created, default=None)
        if newest is None:
            allowed = f"the name of an AMI of {pool.ami.owner or 'this account'}"
            self.faults.append(Fault(path=join(pool.path, "ami.name"), value=pool.ami.name, allowed=allowed, source="ec2:DescribeImages"))
            return None
        id_: str = newest["ImageId"]
        return id_


def _created(image: t.Mapping[str, t.Any]) -> str:
    return str(image.get("CreationDate", ""))
