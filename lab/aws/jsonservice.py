"""Small AWS services of our own that speak JSON: input checks and the form of the reply come from the API's own model."""

from __future__ import annotations

import json
import typing as t

import botocore.session
from botocore.model import StructureShape
from botocore.validate import ParamValidator
from werkzeug.wrappers import Response

from lab.aws.calls import Call
from lab.aws.errors import AwsError

Params = dict[str, t.Any]
Operation = t.Callable[[Call, Params], Params]


class JsonService:
    """The operations of one service; ``invalid`` is its error code for what its API's model forbids."""

    def __init__(self, name: str, operations: t.Mapping[str, Operation], *, invalid: str) -> None:
        self._name = name
        self._operations = operations
        self._invalid = invalid
        self._model = botocore.session.get_session().get_service_model(name)

    def handle(self, call: Call) -> Response:
        """The reply; raises AwsError."""
        operation = self._operations.get(call.operation)
        if operation is None:
            raise AwsError("NotImplemented", f"The lab does not imitate {self._name}:{call.operation}", 501)
        shape = t.cast(StructureShape, self._model.operation_model(call.operation).input_shape)
        report = ParamValidator().validate(call.params, shape)
        if report.has_errors():
            raise AwsError(self._invalid, report.generate_report())
        return Response(json.dumps(operation(call, call.params)), content_type="application/x-amz-json-1.1")


def page(items: t.Sequence[t.Any], params: Params, *, invalid: str, limit: int = 100) -> tuple[list[t.Any], str | None]:
    """The items of a page and the token of the next; raises AwsError for a token that nobody gave."""
    token = str(params.get("NextToken") or "0")
    if not token.isdecimal():
        raise AwsError(invalid, "The value of NextToken is not valid.")
    end = int(token) + min(int(params.get("MaxResults") or limit), limit)
    return list(items[int(token) : end]), str(end) if end < len(items) else None
