# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS tokens, judged by a verifier that was written from the other side."""

from __future__ import annotations

import base64
import datetime
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._k8s import token as tokens
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.token import PREFIX, TokenSource, eks_token, sts_host
from botocore.credentials import Credentials

from lab.kubernetes.token import TokenRefused, verify

SECRETS = {"AKIDEXAMPLE": "a-secret", "ASIATEMPORARY": "another"}


def now() -> datetime.datetime:
    return datetime.datetime.now(tz=datetime.UTC)


def url_of(token: str) -> str:
    raw = token.removeprefix(PREFIX)
    return base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)).decode()


@pytest.mark.parametrize(("key", "session"), [("AKIDEXAMPLE", None), ("ASIATEMPORARY", "session/token+=")])
@pytest.mark.parametrize("region", ["us-west-2", "us-east-1", "ap-southeast-1"])
def test_a_token_is_accepted_for_its_cluster(key: str, session: str | None, region: str) -> None:
    token = eks_token(Credentials(key, SECRETS[key], session), region=region, cluster_name="demo")
    assert verify(token, "demo", SECRETS.get, now()) == key
    assert url_of(token).startswith(f"https://sts.{region}.amazonaws.com/?")


def test_a_token_is_refused_for_another_cluster_and_with_another_secret() -> None:
    token = eks_token(Credentials("AKIDEXAMPLE", "a-secret"), region="us-west-2", cluster_name="demo")
    with pytest.raises(TokenRefused, match="SignatureDoesNotMatch"):
        verify(token, "other", SECRETS.get, now())
    with pytest.raises(TokenRefused, match="SignatureDoesNotMatch"):
        verify(token, "demo", {"AKIDEXAMPLE": "wrong"}.get, now())
    with pytest.raises(TokenRefused, match="expired"):
        verify(token, "demo", SECRETS.get, now() + datetime.timedelta(minutes=16))


def test_the_host_is_that_of_sts_whatever_endpoint_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    token = eks_token(Credentials("AKIDEXAMPLE", "a-secret"), region="us-west-2", cluster_name="demo")
    assert url_of(token).startswith("https://sts.us-west-2.amazonaws.com/?")


@pytest.mark.parametrize(
    ("region", "host"), [("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"), ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com")]
)
def test_hosts_of_other_partitions(region: str, host: str) -> None:
    assert sts_host(region) == host


def test_a_source_makes_a_token_again_when_it_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: list[float] = [0.0]
    made: t.Iterator[str] = iter(["first", "second"])
    monkeypatch.setattr(tokens.time, "monotonic", lambda: clock[0])
    source = TokenSource(lambda: next(made))
    assert [source(), source()] == ["first", "first"]
    clock[0] = 601.0
    assert source() == "second"
