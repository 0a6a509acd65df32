"""The OpenAPI document: it has every call, and the server does what it says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from kvengine.server.api.openapi import BASE, document
from kvengine.server.api.rest.endpoint import CALLS
from tests.server.running import ACCOUNT, Running

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")

schema = schemathesis.openapi.from_dict(document())
server_found: list[Running] = []


@pytest.fixture(autouse=True)
def here(server: Running) -> None:
    server_found[:] = [server]
    kv = server.db.namespace("here")
    kv.put_many({"a": "1", "b/c": '{"j": 1}'})


def test_every_call_is_in_it() -> None:
    def shape(path: str) -> tuple[bytes, ...]:
        parts = path.removeprefix(BASE).split("/")[1:]
        return tuple(b"+" if part.startswith("{") else part.encode() for part in parts)

    described = {
        (shape(path), method.upper())
        for path, methods in document()["paths"].items()
        for method in methods
    }
    assert described == {(call, method) for call, methods in CALLS.items() for method in methods}


def test_it_is_served(server: Running) -> None:
    assert httpx.get(f"{server.url}/openapi.json").json() == document()


@schema.parametrize()
@settings(
    max_examples=15, deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow
    ],
)  # fmt: skip
def test_the_server_does_what_it_says(case: Any) -> None:
    server = server_found[0]
    if "account_id" in case.path_parameters:
        case.path_parameters["account_id"] = ACCOUNT
    if "namespace_id" in case.path_parameters:
        case.path_parameters["namespace_id"] = server.namespace_id("here")
    answer = case.call(base_url=server.url, headers=server.headers)
    assert answer.status_code < 500
    case.validate_response(
        answer,
        checks=(
            schemathesis.checks.not_a_server_error,
            schemathesis.specs.openapi.checks.response_schema_conformance,
            schemathesis.specs.openapi.checks.content_type_conformance,
            schemathesis.specs.openapi.checks.status_code_conformance,
        ),
    )
