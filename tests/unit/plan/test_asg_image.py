# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image a group has, and when it is another one."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_image import ImageSource, changed_source, image_filters, wanted_source

STOCK = "al2023/nvidia/amd64"


def pool(**params: t.Any) -> Pool:
    return Pool.from_params({"name": "gpu", "instances": {"types": ["g5.2xlarge"]}, **params})


def source(text: str) -> ImageSource:
    found = ImageSource.from_text(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("params", "text", "parameter"),
    [
        (
            {},
            f"eks {STOCK} 1.36 newest",
            "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended/image_id",
        ),
        (
            {"ami": {"release": "v20260724"}},
            f"eks {STOCK} 1.36 v20260724",
            "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/amazon-eks-node-al2023-x86_64-nvidia-1.36-v20260724/image_id",
        ),
        (
            {"ami": {"family": "bottlerocket", "release": "latest"}, "accelerator": "none", "instances": {"architectures": ["arm64"]}},
            "eks bottlerocket/none/arm64 1.36 latest",
            "/aws/service/bottlerocket/aws-k8s-1.36/arm64/latest/image_id",
        ),
        (
            {"ami": {"family": "bottlerocket", "release": "1.54.0"}},
            "eks bottlerocket/nvidia/amd64 1.36 1.54.0",
            "/aws/service/bottlerocket/aws-k8s-1.36-nvidia/x86_64/1.54.0/image_id",
        ),
        ({"ami": {"ssm_parameter": "/my/image"}}, "ssm /my/image", "/my/image"),
        ({"ami": {"id": "ami-1"}}, "id ami-1", None),
        ({"ami": {"name": "my image *", "owner": "123456789012"}}, "name 123456789012/my image *", None),
        ({"ami": {"name": "mine"}}, "name self/mine", None),
    ],
)
def test_what_an_image_is_chosen_by(params: dict[str, t.Any], text: str, parameter: str | None) -> None:
    wanted = wanted_source(pool(**params), "1.36")
    assert wanted.to_text() == text
    assert ImageSource.from_text(text) == wanted
    assert wanted.parameter == parameter


@pytest.mark.parametrize("text", ["", "made by hand", "eks", "eks a b", "id "])
def test_descriptions_of_others(text: str) -> None:
    assert ImageSource.from_text(text) is None


NEWEST = f"eks {STOCK} 1.35 newest"


@pytest.mark.parametrize(
    ("ami", "there", "upgrade", "expected"),
    [
        ({}, NEWEST, None, None),  # the cluster is at 1.36: nodes stay until they are brought there
        ({}, NEWEST, "1.35", None),
        ({}, NEWEST, "1.36", f"eks {STOCK} 1.36 newest"),
        ({}, "id ami-1", "1.36", None),
        ({}, "", None, None),
        ({}, "eks bottlerocket/nvidia/amd64 1.35 newest", None, None),
        ({}, "eks bottlerocket/nvidia/amd64 1.35 newest", "1.36", "eks bottlerocket/nvidia/amd64 1.36 newest"),
        ({}, "eks al2023/nvidia/arm64 1.35 v20260101", None, f"eks {STOCK} 1.35 newest"),  # instances of another architecture
        ({"family": "al2023"}, NEWEST, None, None),
        ({"family": "al2023"}, f"eks {STOCK} 1.35 v20260101", None, None),
        ({"family": "bottlerocket"}, NEWEST, None, "eks bottlerocket/nvidia/amd64 1.35 newest"),
        ({"release": "v20260724"}, f"eks {STOCK} 1.35 v20260724", None, None),
        ({"release": "v20260724"}, NEWEST, None, f"eks {STOCK} 1.35 v20260724"),
        ({"release": "v20260724"}, f"eks {STOCK} 1.35 v20260724", "1.36", f"eks {STOCK} 1.36 v20260724"),
        ({"release": "latest"}, f"eks {STOCK} 1.35 latest", None, f"eks {STOCK} 1.35 latest"),
        ({"id": "ami-1"}, "id ami-1", None, None),
        ({"id": "ami-2"}, "id ami-1", None, "id ami-2"),
        ({"id": "ami-2"}, "", None, "id ami-2"),
        ({"name": "mine"}, "name self/mine", None, None),
        ({"ssm_parameter": "/a"}, "ssm /a", None, None),
        ({"ssm_parameter": "/b"}, "ssm /a", None, "ssm /b"),
        ({"family": "al2023"}, "id ami-1", None, f"eks {STOCK} 1.36 newest"),
    ],
)
def test_when_an_image_changes(ami: dict[str, str], there: str, upgrade: str | None, expected: str | None) -> None:
    found = changed_source(pool(ami=ami), ImageSource.from_text(there), version="1.36", upgrade=upgrade)
    assert (found.to_text() if found else None) == expected


def test_images_of_the_users_own_are_found_by_filters() -> None:
    assert image_filters(source("id ami-1")) == {"Filters": [{"Name": "image-id", "Values": ["ami-1"]}]}
    assert image_filters(source("name self/mine")) == {
        "Owners": ["self"],
        "Filters": [{"Name": "name", "Values": ["mine"]}, {"Name": "state", "Values": ["available"]}],
    }
