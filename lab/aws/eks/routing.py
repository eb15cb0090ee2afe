"""Requests to operations and back, read from botocore's EKS service model."""

from __future__ import annotations

import datetime
import functools
import json
import re
import typing as t
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

import botocore.session
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator
from werkzeug.wrappers import Response

from lab.aws.errors import AwsError

_LABEL = re.compile(r"\\{(\w+)\\}")


@dataclass(frozen=True, slots=True)
class Route:
    """An operation and the labels that its path carried, still by the names in the request URI."""

    operation: str
    labels: dict[str, str]


@functools.cache
def service_model() -> ServiceModel:
    """The EKS service model of the botocore at hand."""
    return botocore.session.get_session().get_service_model("eks")


@functools.cache
def _routes() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    routes = []
    for name in service_model().operation_names:
        http = service_model().operation_model(name).http
        pattern = _LABEL.sub(r"(?P<\1>[^/]+)", re.escape(str(http["requestUri"]).partition("?")[0]))
        routes.append((str(http["method"]), re.compile(f"^{pattern}/?$"), name))
    return tuple(routes)


def match_operation(method: str, raw_path: str) -> Route | None:
    """The operation behind a method and a still percent-encoded path."""
    for route_method, pattern, name in _routes():
        if route_method == method and (match := pattern.match(raw_path)):
            return Route(name, {label: unquote(value) for label, value in match.groupdict().items()})
    return None


def parse_input(route: Route, query_string: str, body: bytes) -> dict[str, t.Any]:
    """The operation's input by member names; raises AwsError on what the API's model forbids."""
    model = service_model().operation_model(route.operation)
    shape = model.input_shape
    if shape is None:
        return {}
    payload = _body(body)
    query = parse_qs(query_string, keep_blank_values=True)
    params: dict[str, t.Any] = {}
    for name, member in shape.members.items():
        value = _located(name, member, route.labels, query, payload)
        if value is not None:
            params[name] = value
    _validate(params, shape)
    return params


def _body(body: bytes) -> dict[str, t.Any]:
    if not body:
        return {}
    try:
        payload = json.loads(body)
    except ValueError as error:
        raise AwsError("SerializationException", f"The request body is not valid JSON: {error}") from error
    if not isinstance(payload, dict):
        raise AwsError("SerializationException", "The request body is not a JSON object")
    return payload


def _located(name: str, member: Shape, labels: dict[str, str], query: dict[str, list[str]], payload: dict[str, t.Any]) -> t.Any:
    location = member.serialization.get("location")
    wire_name = str(member.serialization.get("name", name))
    if location == "uri":
        return labels.get(wire_name)
    if location == "querystring":
        return _from_query(member, query[wire_name]) if wire_name in query else None
    return payload.get(wire_name)


def _from_query(member: Shape, values: list[str]) -> t.Any:
    if member.type_name == "list":
        return values
    if member.type_name in ("integer", "long"):
        try:
            return int(values[0])
        except ValueError as error:
            raise AwsError("InvalidParameterException", f"'{values[0]}' is not a number") from error
    return values[0].lower() == "true" if member.type_name == "boolean" else values[0]


def _validate(params: dict[str, t.Any], shape: StructureShape) -> None:
    report = ParamValidator().validate(params, shape)
    faults = [line for line in report.generate_report().splitlines() if line] if report.has_errors() else []
    if not faults:
        faults = _constraint_faults(params, shape, "")
    if faults:
        count = len(faults)
        raise AwsError("InvalidParameterException", f"{count} validation error{'s' if count > 1 else ''} detected: {'; '.join(faults)}")


def _constraint_faults(value: t.Any, shape: Shape, path: str) -> list[str]:
    """Enum, pattern and range, which botocore leaves to the service; in the words that AWS services use."""
    if isinstance(shape, StructureShape):
        return [
            f
            for name, item in value.items()
            if name in shape.members
            for f in _constraint_faults(item, shape.members[name], _join(path, name))
        ]
    if isinstance(shape, ListShape):
        return [f for index, item in enumerate(value, 1) for f in _constraint_faults(item, shape.member, f"{path}.{index}.member")]
    if isinstance(shape, MapShape):
        return [
            f
            for key, item in value.items()
            for f in _constraint_faults(key, shape.key, path) + _constraint_faults(item, shape.value, f"{path}.{key}")
        ]
    return [f"Value '{value}' at '{path}' failed to satisfy constraint: {reason}" for reason in _scalar_faults(value, shape)]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _scalar_faults(value: t.Any, shape: Shape) -> t.Iterator[str]:
    limits = shape.metadata
    if limits.get("enum") and value not in limits["enum"]:
        yield f"Member must satisfy enum value set: [{', '.join(limits['enum'])}]"
    if limits.get("pattern") and not re.fullmatch(limits["pattern"], str(value)):
        yield f"Member must satisfy regular expression pattern: {limits['pattern']}"
    size, noun = (len(value), "length") if isinstance(value, str) else (value, "value")
    if not isinstance(size, bool) and isinstance(size, int):
        if "max" in limits and size > limits["max"]:
            yield f"Member must have {noun} less than or equal to {limits['max']}"
        if "min" in limits and size < limits["min"]:
            yield f"Member must have {noun} greater than or equal to {limits['min']}"


def output_response(operation: str, result: dict[str, t.Any]) -> Response:
    """``result`` as the reply of ``operation``; members that the model does not have are a mistake of ours and raise KeyError."""
    model: OperationModel = service_model().operation_model(operation)
    shape = model.output_shape
    payload = _serialise(result, shape) if shape is not None else {}
    return Response(json.dumps(payload), status=int(model.http.get("responseCode", 200)), content_type="application/json")


def _serialise(value: t.Any, shape: Shape) -> t.Any:
    if isinstance(shape, StructureShape):
        return {name: _serialise(item, shape.members[name]) for name, item in value.items() if item is not None}
    if isinstance(shape, ListShape):
        return [_serialise(item, shape.member) for item in value]
    if isinstance(shape, MapShape):
        return {key: _serialise(item, shape.value) for key, item in value.items()}
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    return value
