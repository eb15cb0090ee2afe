"""maxResults and nextToken."""

from __future__ import annotations

import base64
import binascii
import typing as t

from lab.aws.eks.context import Params, invalid_parameter

DEFAULT_PAGE = 100


def page(names: t.Iterable[str], params: Params) -> tuple[list[str], str | None]:
    """One page of ``names`` in order, and the token of the next page or None; raises InvalidParameterException on a bad token."""
    ordered = sorted(names)
    size = int(params.get("maxResults", DEFAULT_PAGE))
    if not 1 <= size <= 100:
        raise invalid_parameter("maxResults needs to be between 1 and 100")
    if "nextToken" in params:
        last = _decode(str(params["nextToken"]))
        ordered = [name for name in ordered if name > last]
    chosen = ordered[:size]
    return chosen, _encode(chosen[-1]) if len(ordered) > size else None


def _encode(name: str) -> str:
    return base64.urlsafe_b64encode(f"after:{name}".encode()).decode()


def _decode(token: str) -> str:
    try:
        prefix, _, name = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise invalid_parameter("Invalid nextToken.") from error
    if prefix != "after":
        raise invalid_parameter("Invalid nextToken.")
    return name
