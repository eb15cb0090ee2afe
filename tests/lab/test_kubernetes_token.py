# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS tokens: made by botocore, judged by the lab."""

from __future__ import annotations

import base64
import datetime

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lab.kubernetes import token

KEY, SECRET, CLUSTER = "AKIDEXAMPLE", "a-secret", "inference"
STS = "https://sts.us-west-2.amazonaws.com/"
ENDPOINT = "http://127.0.0.1:4566"


def encode(url: str) -> str:
    return token.PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def presign(
    *,
    secret: str = SECRET,
    cluster: str = CLUSTER,
    action: str = "GetCallerIdentity",
    base: str = STS,
    expires: int = 60,
    service: str = "sts",
    session: str | None = None,
    header: str = "x-k8s-aws-id",
) -> str:
    request = AWSRequest("GET", f"{base}?Action={action}&Version=2011-06-15", headers={header: cluster})
    SigV4QueryAuth(Credentials(KEY, secret, session), service, "us-west-2", expires=expires).add_auth(request)
    return str(request.url)


def judge(text: str, *, cluster: str = CLUSTER, age: datetime.timedelta = datetime.timedelta(0)) -> str:
    secrets = {KEY: SECRET}
    return token.verify(text, cluster, secrets.get, datetime.datetime.now(datetime.UTC) + age, ENDPOINT)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(presign(), id="regional"),
        pytest.param(presign(base="https://sts.amazonaws.com/"), id="global"),
        pytest.param(presign(base=f"{ENDPOINT}/"), id="signed for the endpoint that AWS_ENDPOINT_URL names"),
        pytest.param(presign(session="a+session/token=="), id="temporary credentials"),
        pytest.param(presign(expires=900), id="longest expiry"),
    ],
)
def test_good_tokens_name_their_key(url: str) -> None:
    assert judge(encode(url)) == KEY


def test_a_token_is_good_for_fifteen_minutes_whatever_it_says_of_its_expiry() -> None:
    text = encode(presign(expires=60))
    assert judge(text, age=datetime.timedelta(minutes=14)) == KEY
    with pytest.raises(token.TokenRefused, match="is expired"):
        judge(text, age=datetime.timedelta(minutes=15, seconds=2))


def test_a_token_from_the_future_is_refused() -> None:
    with pytest.raises(token.TokenRefused, match="not yet current"):
        judge(encode(presign()), age=datetime.timedelta(minutes=-6))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param(presign(secret="another"), "SignatureDoesNotMatch", id="wrong secret"),
        pytest.param(presign(cluster="training"), "SignatureDoesNotMatch", id="another cluster's"),
        pytest.param(presign().replace("us-west-2.amazonaws", "eu-west-1.amazonaws"), "SignatureDoesNotMatch", id="host changed"),
        pytest.param(presign().replace("Version=2011-06-15", "Version=2011-06-16"), "SignatureDoesNotMatch", id="parameter changed"),
        pytest.param(presign().replace(KEY, "AKIDOTHER"), "InvalidClientTokenId", id="unknown key"),
        pytest.param(presign(action="AssumeRole"), "unexpected action", id="another action"),
        pytest.param(presign(expires=901), "invalid X-Amz-Expires", id="expiry above 900"),
        pytest.param(presign(service="s3"), "invalid X-Amz-Credential", id="another service"),
        pytest.param(presign(header="x-other"), "did not sign the x-k8s-aws-id header", id="cluster not signed"),
        pytest.param(presign(base="https://sts.example.com/"), "unexpected hostname", id="another host"),
        pytest.param(presign(base="https://sts.us-west-2.amazonaws.com.example.com/"), "unexpected hostname", id="suffixed host"),
        pytest.param(presign().replace("https:", "http:"), "unexpected scheme", id="plain http"),
        pytest.param(presign(base=STS + "x/"), "unexpected path", id="path"),
        pytest.param(presign() + "&Extra=1", "non-whitelisted query parameter", id="extra parameter"),
        pytest.param(presign() + "&action=GetCallerIdentity", "more than once", id="parameter twice"),
        pytest.param(presign().partition("&X-Amz-Signature")[0], "missing query parameter 'x-amz-signature'", id="not signed"),
    ],
)
def test_bad_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(token.TokenRefused, match=message):
        judge(encode(url))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "missing expected 'k8s-aws-v1.' prefix"),
        ("k8s-aws-v1.!!!", "does not hold a URL"),
        ("k8s-aws-v1." + "A" * 5000, "too large"),
    ],
)
def test_what_is_no_token_is_refused(text: str, message: str) -> None:
    with pytest.raises(token.TokenRefused, match=message):
        judge(text)
