"""The OpenAPI 3.1 document of the server's REST API.

Invariants:

* It describes exactly the calls of `rest/endpoint.py`; a test compares the two.
"""

from __future__ import annotations

from typing import Any

import kvengine
from kvengine.namespace.bounds import EVICTIONS
from kvengine.server.http.messages import Request, Response

BASE = "/client/v4/accounts/{account_id}/storage/kv/namespaces"
SPACE = f"{BASE}/{{namespace_id}}"
Schema = dict[str, Any]


def document() -> Schema:
    """Return the document as a JSON object."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kvengine",
            "version": kvengine.__version__,
            "description": "Cloudflare's REST API v4 for Workers KV. The header kv-version and "
            "the options if_version, delimiter, reverse and start_after are additions.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": {
            BASE: {"get": _list_namespaces(), "post": _create()},
            SPACE: {
                "get": _call("get namespace", "Read a namespace.", _envelope(_ref("Namespace"))),
                "put": _rename(),
                "delete": _call("remove namespace", "Delete a namespace.", _envelope({})),
            },
            f"{SPACE}/keys": {"get": _list_keys()},
            f"{SPACE}/values/{{key}}": _values(),
            f"{SPACE}/metadata/{{key}}": {
                "get": _call("get metadata", "Read a key's metadata.", _envelope({}), [_KEY])
            },
            f"{SPACE}/bulk": {"put": _bulk_put(), "delete": _bulk_delete("DELETE")},
            f"{SPACE}/bulk/get": {"post": _bulk_get()},
            f"{SPACE}/bulk/delete": {"post": _bulk_delete("POST")},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _SCHEMAS,
            "responses": {"Refusal": _REFUSAL},
        },
    }


async def openapi_endpoint(request: Request) -> Response:
    """Respond with the document."""
    request.action = "health"
    return Response.json(document())


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _path(name: str, text: str, **more: Any) -> Schema:
    schema = {"type": "string", "minLength": 1, **more}
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": text}


_KEY = _path("key", "Percent-encoded UTF-8, slashes included; at most 512 bytes.", maxLength=512)
_NAMESPACE = _path("namespace_id", "32 hex digits.")
_ACCOUNT = _path("account_id", "The server's account id.")
_WHOLE = {"type": "integer"}
_REFUSAL: Schema = {
    "description": "Why the request was refused.",
    "content": {"application/json": {"schema": _ref("Failure")}},
}
_TIMES = [
    _query("expiration", _WHOLE, "When the key expires, in seconds since 1970."),
    _query("expiration_ttl", _WHOLE, "Seconds until it expires; overrides expiration."),
]
_IF_VERSION = _query("if_version", _WHOLE, "Only if the key has this version; 0: if it is absent.")
_BOUND = {"type": ["integer", "null"], "minimum": 1, "maximum": (1 << 63) - 1}
_BOUNDS: Schema = {  # kvengine's own: a namespace that is a cache
    "max_bytes": _BOUND,
    "max_keys": _BOUND,
    "eviction": {"enum": [*EVICTIONS, None]},
}
_SCHEMAS: Schema = {
    "Namespace": {
        "type": "object",
        "required": ["id", "title", "supports_url_encoding"],
        "properties": {
            "id": {"type": "string"},
            "title": {"type": "string"},
            "supports_url_encoding": {"const": True},
            **_BOUNDS,
        },
    },
    "Title": {
        "type": "object",
        "required": ["title"],
        "properties": {"title": {"type": "string", "minLength": 1, "maxLength": 512}, **_BOUNDS},
    },
    "Key": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "expiration": _WHOLE, "metadata": {}},
    },
    "Pair": {
        "type": "object",
        "required": ["key", "value"],
        "properties": {
            "key": {"type": "string", "minLength": 1},
            "value": {"type": "string"},
            "base64": {"type": "boolean"},
            "expiration": {"type": "number"},
            "expiration_ttl": {"type": "number"},
            "metadata": {},
        },
        "additionalProperties": False,
    },
    "Bulk": {
        "type": "object",
        "required": ["successful_key_count", "unsuccessful_keys"],
        "properties": {
            "successful_key_count": _WHOLE,
            "unsuccessful_keys": {"type": "array", "items": {"type": "string"}},
        },
    },
    "Failure": {
        "type": "object",
        "required": ["result", "success", "errors", "messages"],
        "properties": {
            "result": {"type": "null"},
            "success": {"const": False},
            "messages": {"type": "array"},
            "errors": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": {"code": _WHOLE, "message": {"type": "string"}},
                },
            },
        },
    },
}


def _envelope(result: Schema, info: Schema | None = None) -> Schema:
    properties: Schema = {
        "result": result,
        "success": {"const": True},
        "errors": {"type": "array", "maxItems": 0},
        "messages": {"type": "array"},
    }
    if info is not None:
        properties["result_info"] = {"type": "object", "properties": info, "required": [*info]}
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    return {"description": "Success.", "content": {"application/json": {"schema": schema}}}


def _call(
    name: str, text: str, answer: Schema, parameters: Any = (), body: Schema | None = None
) -> Schema:
    """Return an operation."""
    place = (
        [_ACCOUNT] if "namespaces" in name or name == "create namespace" else [_ACCOUNT, _NAMESPACE]
    )
    found: Schema = {
        "operationId": name.replace(" ", "_"),
        "summary": text,
        "parameters": [*place, *parameters],
        "responses": {"200": answer, "4XX": {"$ref": "#/components/responses/Refusal"}},
    }
    if body is not None:
        found["requestBody"] = {"required": True, "content": body}
    return found


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _list_namespaces() -> Schema:
    order = {"type": "string", "enum": ["id", "title"]}
    direction = {"type": "string", "enum": ["asc", "desc"]}
    info = dict.fromkeys(("page", "per_page", "count", "total_count", "total_pages"), _WHOLE)
    answer = _envelope({"type": "array", "items": _ref("Namespace")}, info)
    parameters = [
        _query(
            "page",
            {**_WHOLE, "minimum": 1, "maximum": 10**15},
            "Starts at 1; a page past the last one is empty.",
        ),
        _query("per_page", {**_WHOLE, "minimum": 1, "maximum": 1000}, "Default: 20."),
        _query("order", order, "The field to order by."),
        _query("direction", direction, "Ascending or descending."),
    ]
    return _call("list namespaces", "List namespaces.", answer, parameters)


def _create() -> Schema:
    answer = _envelope(_ref("Namespace"))
    return _call("create namespace", "Create a namespace.", answer, body=_json(_ref("Title")))


def _rename() -> Schema:
    answer = _envelope(_ref("Namespace"))
    return _call(
        "rename namespace",
        "Rename a namespace, and set its bounds.",
        answer,
        body=_json(_ref("Title")),
    )


def _list_keys() -> Schema:
    info = {"count": _WHOLE, "cursor": {"type": "string"}}
    answer = _envelope({"type": "array", "items": _ref("Key")}, info)
    text = {"type": "string"}
    parameters = [
        _query("limit", {**_WHOLE, "minimum": 10, "maximum": 1000}, "Default: 1,000."),
        _query("prefix", text, "Only keys with this prefix."),
        _query("cursor", text, "Cursor from the previous page."),
        _query("start_after", text, "Only keys after this one."),
        _query("delimiter", text, "Group keys that contain it into folders, in result_info."),
        _query("reverse", {"type": "boolean"}, "Return keys in descending order."),
    ]
    return _call("list keys", "Show keys.", answer, parameters)


def _values() -> Schema:
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    form = {
        "type": "object",
        "required": ["value"],
        "properties": {"value": {"type": "string"}, "metadata": {"type": "string"}},
    }
    value = {"description": "The value itself.", "content": octets}
    body = {**octets, "multipart/form-data": {"schema": form}}
    done = _envelope({})
    return {
        "get": _call("get value", "Read a value.", value, [_KEY]),
        "head": _call(
            "look at value", "Read a value's headers.", {"description": "The key exists."}, [_KEY]
        ),
        "put": _call("put value", "Write a value.", done, [_KEY, *_TIMES, _IF_VERSION], body),
        "delete": _call("remove key", "Delete a key.", done, [_KEY, _IF_VERSION]),
    }


def _bulk_put() -> Schema:
    pairs = {"type": "array", "maxItems": 10_000, "items": _ref("Pair")}
    return _call(
        "bulk put keys", "Write many pairs atomically.", _envelope(_ref("Bulk")), body=_json(pairs)
    )


def _bulk_delete(method: str) -> Schema:
    keys = {"type": "array", "maxItems": 10_000, "items": {"type": "string", "minLength": 1}}
    name = "bulk remove keys" if method == "POST" else "bulk remove keys as before"
    return _call(name, "Delete keys.", _envelope(_ref("Bulk")), body=_json(keys))


def _bulk_get() -> Schema:
    asked = {
        "type": "object",
        "required": ["keys"],
        "properties": {
            "keys": {
                "type": "array",
                "minItems": 1,
                "maxItems": 100,
                "items": {"type": "string", "minLength": 1},
            },
            "type": {"type": "string", "enum": ["text", "json"]},
            "withMetadata": {"type": "boolean"},
        },
    }
    found = {"type": "object", "required": ["values"], "properties": {"values": {"type": "object"}}}
    return _call("bulk get keys", "Read many values.", _envelope(found), body=_json(asked))
