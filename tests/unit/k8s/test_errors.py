# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said when an API server refuses, does not answer, or answers something else."""

from __future__ import annotations

import json
import typing as t

import pytest
import urllib3
from ansible_collections.gpuops.eks.plugins.module_utils._errors import ConnectionRefused, ServiceError
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.errors import ListExpired, refused, unreachable
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.kubeconfig import kubeconfig
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.secrets import kubeconfig_secrets

HOST = "https://host"


def refuse(status: int, answer: t.Any, action: str = "kubernetes:patch daemonsets.apps") -> Exception:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return refused(action, HOST, status, body, identity_hint="Get an access entry.")


@pytest.mark.parametrize(
    ("status", "answer", "kind", "said"),
    [
        (401, {}, ConnectionRefused, "the API server at https://host refused the token (401 Unauthorized). Get an access entry."),
        (
            403,
            {"reason": "Forbidden", "message": "no."},
            ServiceError,
            "Forbidden: no. The calling identity needs the Kubernetes permission patch on",
        ),
        (403, {"reason": "Forbidden", "message": "it is being terminated"}, ServiceError, "Run again when that namespace is gone."),
        (410, {"reason": "Expired", "message": "too old"}, ListExpired, "too old"),
        (422, {"reason": "Invalid", "message": "spec.x: Invalid value"}, ServiceError, "Invalid: spec.x: Invalid value."),
        (429, {"reason": "TooManyRequests", "message": "busy"}, ServiceError, "overloaded"),
        (502, b"<html>bad gateway</html>", ServiceError, "HTTP 502: <html>bad gateway</html>."),
        (500, b'["a list"]', ServiceError, 'HTTP 500: ["a list"].'),
    ],
)
def test_refusals(status: int, answer: t.Any, kind: type[Exception], said: str) -> None:
    error = refuse(status, answer)
    assert error.__class__ is kind
    assert said in str(error)


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (urllib3.exceptions.ConnectTimeoutError("timed out"), "cannot be reached: timed out. Check the network"),
        (
            urllib3.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer"),
            "certificate of https://host is not accepted",
        ),
        (
            urllib3.exceptions.MaxRetryError(t.cast("t.Any", None), "/api", OSError("pool: [Errno 111] Connection refused")),
            "cannot be reached: [Errno 111] Connection refused.",
        ),
    ],
)
def test_no_answer(cause: Exception, said: str) -> None:
    assert said in str(unreachable("kubernetes:list nodes", HOST, cause))


CLUSTER = {
    "name": "demo",
    "arn": "arn:aws:eks:us-west-2:123456789012:cluster/demo",
    "endpoint": HOST,
    "certificateAuthority": {"data": "Q0E="},
}


def test_secrets_of_a_kubeconfig_are_found_and_ordinary_words_are_not() -> None:
    config = kubeconfig(CLUSTER, "the-token")
    config["users"].append({"name": "cert", "user": {"client-key-data": "the-key", "client-certificate-data": "public"}})
    config["users"].append({"name": "old", "user": {"auth-provider": {"config": {"refresh-token": "the-refresh", "idp": "x"}}}})
    assert kubeconfig_secrets(config) == {"the-token", "the-key", "the-refresh"}
    assert kubeconfig_secrets("/path/to/kubeconfig") == set()
    assert kubeconfig_secrets(None) == set()
