"""The OpenAPI 3.1 description, made from the operations that are served."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from face_detection.api import schemas
from face_detection.api.http.authentication import KEY_HEADER
from face_detection.api.http.bodies import IDEMPOTENCY_KEY
from face_detection.api.http.idempotency import KEY_PATTERN
from face_detection.api.operation import Operation
from face_detection.api.validation import COLLECTION
from face_detection.gallery.collections import COLLECTION_NAME
from face_detection.gallery.directory import DEFAULT_TENANT

_REF = "#/components/schemas/{model}"

_BYTES = {"schema": {"type": "string", "format": "binary"}}

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key; none is needed while there is none."},
    "header": {"type": "apiKey", "in": "header", "name": KEY_HEADER, "description": "The same in another header."},
}

_IDEMPOTENCY: dict[str, Any] = {
    "description": "Chosen by the client: the same request with the same key is done once, and answered the same.",
    "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
}

_COLLECTION: dict[str, Any] = {
    "description": "Name of the collection that it is about. Default: the company's default one.",
    "schema": {"type": "string", "pattern": f"^{COLLECTION_NAME}$"},
}


def describe(operations: Sequence[Operation], version: str) -> dict[str, object]:
    """The description of a service that serves ``operations``."""
    components: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Face recognition", "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def _describe(operation: Operation, components: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": _identity(operation),
        "parameters": _parameters(operation, components),
        "responses": _responses(operation, components),
    }
    if operation.right is not None:
        whose = f"Needs an API key with the right `{operation.right}`"
        described["description"] = f"{whose} of the company `{DEFAULT_TENANT}`." if operation.operator else f"{whose}."
        described["security"] = [{name: []} for name in _SCHEMES]
    if operation.body is not None:
        content: dict[str, Any] = {"application/json": {"schema": _schema(operation.body, components, "validation")}}
        if operation.form:
            content["multipart/form-data"] = {"schema": _form_schema(content["application/json"]["schema"])}
        if operation.urlencoded:
            content["application/x-www-form-urlencoded"] = {"schema": content["application/json"]["schema"]}
        if operation.picture_body:
            for kind in ("image/*", "application/octet-stream"):
                content[kind] = _BYTES
        described["requestBody"] = {"required": True, "content": content}
    if operation.stream_types:
        content = dict.fromkeys(operation.stream_types, _BYTES)
        described["requestBody"] = {"required": True, "content": content}
    return described


def _identity(operation: Operation) -> str:
    # A slash at the end stays visible: some paths are served with and without.
    return re.sub(r"\W+", "_", re.sub(r"[{}]", "", f"{operation.method.lower()}{operation.path}"))


def _parameters(operation: Operation, components: dict[str, Any]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.query is not None:
        schema = operation.query.model_json_schema(ref_template=_REF)
        components.update(schema.pop("$defs", {}))
        needed = schema.get("required", ())
        for name, field in schema["properties"].items():
            described = {"description": field.pop("description")} if "description" in field else {}
            parameters.append(
                {"name": name, "in": "query", "required": name in needed, **described, "schema": _without_null(field)}
            )
    if operation.in_collection:
        parameters.append({"name": COLLECTION, "in": "query", "required": False, **_COLLECTION})
    if operation.once:
        parameters.append({"name": IDEMPOTENCY_KEY, "in": "header", "required": False, **_IDEMPOTENCY})
    return parameters


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that may be left out: an address has no null."""
    choices = [choice for choice in field.pop("anyOf", ()) if choice != {"type": "null"}]
    if field.get("default", ...) is None:
        del field["default"]
    return {**choices[0], **field} if len(choices) == 1 else field | ({"anyOf": choices} if choices else {})


def _responses(operation: Operation, components: dict[str, Any]) -> dict[str, Any]:
    if operation.answer is None:
        responses: dict[str, Any] = {"200": {"description": "OK"}}
    else:
        schema = _schema(operation.answer, components, "serialization")
        kind = "application/x-ndjson" if operation.stream_types else "application/json"
        answers: dict[str, Any] = {kind: {"schema": schema}}
        if operation.picture_answer:
            answers["image/jpeg"] = _BYTES
        responses = {"200": {"description": "OK", "content": answers}}
    error = _adapter(operation.failure.schema if operation.failure else schemas.ErrorAnswer)
    content = {"application/json": {"schema": _schema(error, components, "serialization")}}
    refusals = () if operation.right is None else (401, 503)
    slow = () if operation.body is None else (408,)
    reused = (409,) if operation.once else ()
    for status in sorted({*operation.errors, *refusals, *slow, *reused, 403, 421, 429, 500}):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    return responses


def _schema(
    adapter: TypeAdapter[Any], components: dict[str, Any], mode: Literal["validation", "serialization"]
) -> dict[str, Any]:
    schema = dict(_generated(adapter, mode))
    components.update(schema.pop("$defs", {}))
    title = schema.get("title")
    if schema.get("type") == "object" and title:
        components[title] = schema
        return {"$ref": _REF.format(model=title)}
    return schema


@cache
def _adapter(model: type[BaseModel]) -> TypeAdapter[Any]:
    return TypeAdapter(model)


# Most operations share a few models, and one schema takes pydantic milliseconds.
@cache
def _generated(adapter: TypeAdapter[Any], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    return adapter.json_schema(ref_template=_REF, mode=mode)


def _form_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A list of samples becomes a form with the fields of one sample after another."""
    fields: dict[str, Any] = schema.get("items", schema)
    return fields
