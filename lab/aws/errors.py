"""Errors as AWS services answer them, in the form of each wire protocol."""

from __future__ import annotations

import json
import typing as t
import uuid
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

Protocol = t.Literal["ec2", "query", "json", "rest-json", "rest-xml"]


class AwsError(Exception):
    """An answer other than success; ``fields`` are the error shape's further members, such as clusterName."""

    def __init__(self, code: str, message: str, status: int = 400, **fields: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.fields = fields


def error_response(error: AwsError, protocol: Protocol) -> Response:
    """``error`` in the form that clients of ``protocol`` parse."""
    request_id = str(uuid.uuid4())
    body, content_type = _RENDERERS[protocol](error, request_id)
    response = Response(body, status=error.status, content_type=content_type)
    response.headers["x-amzn-requestid"] = request_id
    if protocol == "rest-json":
        response.headers["x-amzn-errortype"] = error.code
    return response


def _ec2(error: AwsError, request_id: str) -> tuple[str, str]:
    detail = f"<Error><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message></Error>"
    return f"<Response><Errors>{detail}</Errors><RequestID>{request_id}</RequestID></Response>", "text/xml"


def _query(error: AwsError, request_id: str) -> tuple[str, str]:
    kind = "Sender" if error.status < 500 else "Receiver"
    detail = f"<Type>{kind}</Type><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    return f"<ErrorResponse><Error>{detail}</Error><RequestId>{request_id}</RequestId></ErrorResponse>", "text/xml"


def _rest_xml(error: AwsError, request_id: str) -> tuple[str, str]:
    detail = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    return f"<Error>{detail}<RequestId>{request_id}</RequestId></Error>", "application/xml"


def _json(error: AwsError, request_id: str) -> tuple[str, str]:
    return json.dumps({"__type": error.code, "message": error.message, **error.fields}), "application/x-amz-json-1.1"


def _rest_json(error: AwsError, request_id: str) -> tuple[str, str]:
    return json.dumps({"message": error.message, **error.fields}), "application/json"


_RENDERERS: dict[Protocol, t.Callable[[AwsError, str], tuple[str, str]]] = {
    "ec2": _ec2,
    "query": _query,
    "json": _json,
    "rest-json": _rest_json,
    "rest-xml": _rest_xml,
}
