# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What an API server answers when it refuses, and what stands in the way of asking it, in one sentence with what to do."""

from __future__ import annotations

import json

from ansible_collections.gpuops.eks.plugins.module_utils._errors import ConnectionRefused, GpuopsError, ServiceError

_TEXT_LIMIT = 500


class ListExpired(GpuopsError):
    """A paged list took so long that its continue token is no longer known (410): it has to be read again from its start."""


def unreachable(action: str, host: str, cause: Exception) -> ConnectionRefused:
    """No answer at all. ``cause`` is urllib3's: its reason says more than itself."""
    reason = str(getattr(cause, "reason", None) or cause).rpartition(": ")[2].strip("()'\". ")
    if "CERTIFICATE" in str(cause).upper():
        hint = "Check ca_cert, or that this is the cluster's own endpoint and no proxy is in between."
        return ConnectionRefused(f"{action}: the certificate of {host} is not accepted: {reason}.", hint=hint)
    hint = "Check the network, and the cluster's endpoint access: endpoint_public_access, public_access_cidrs, or a way into its VPC."
    return ConnectionRefused(f"{action}: the API server at {host} cannot be reached: {reason}.", hint=hint)


def refused(action: str, host: str, status: int, body: bytes, *, identity_hint: str) -> GpuopsError:
    """The API server's answer with an error status; ``identity_hint`` says how to be let in."""
    reason, message = said(status, body)
    if status == 401:
        return ConnectionRefused(f"{action}: the API server at {host} refused the token (401 Unauthorized).", hint=identity_hint)
    if status == 410:
        return ListExpired(f"{action}: {message}")
    if status == 403:
        return ServiceError(action, reason, message, hint=_permission_hint(action, message))
    hint = "Run again in a while: the API server is overloaded." if status == 429 else ""
    return ServiceError(action, reason, message, hint=hint)


def said(status: int, body: bytes) -> tuple[str, str]:
    """(reason, message) of a Status; what is not a Status is shown as it is."""
    text = body.decode(errors="replace")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return f"HTTP {status}", text[:_TEXT_LIMIT]
    return str(answer.get("reason") or f"HTTP {status}"), str(answer.get("message") or text[:_TEXT_LIMIT])


def _permission_hint(action: str, message: str) -> str:
    if "being terminated" in message:
        return "Run again when that namespace is gone."
    verb, resource = action.removeprefix("kubernetes:").split(" ", 1)
    return (
        f"The calling identity needs the Kubernetes permission {verb} on {resource}: by an access policy of its access entry, or by RBAC."
    )
