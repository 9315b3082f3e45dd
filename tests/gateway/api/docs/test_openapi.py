"""The OpenAPI document: valid, complete, and true to the wire's table."""

import re
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from cfmessenger.data.registry import COLLECTIONS
from cfmessenger.errors import ERRORS
from gateway.api.docs import openapi
from gateway.api.docs.collections import on_collections
from gateway.api.operations import OPERATIONS
from gateway.app import routes
from gateway.server.refusals import MALFORMED
from tests.gateway.edge import gateway
from tests.wire_rows import wire

Json = dict[str, Any]

EVERYWHERE = (
    "NOT_FOUND METHOD_NOT_ALLOWED PAYLOAD_TOO_LARGE MISDIRECTED_REQUEST "
    "INTERNAL_ERROR UNAVAILABLE"
)
BELOW = "BAD_REQUEST URI_TOO_LONG HEADERS_TOO_LARGE"
SESSION = "AUTH_REQUIRED AUTH_EXPIRED"
BODY = "INVALID_JSON VALIDATION_ERROR UNSUPPORTED_MEDIA_TYPE"
ROOM = "INVALID_ROOM_ID ROOM_RESERVED ROOM_NOT_FOUND NOT_A_PARTICIPANT"
UPGRADE = "UPGRADE_REQUIRED ORIGIN_NOT_ALLOWED AT_CAPACITY"
LOGIN = (
    "TURNSTILE_REQUIRED TURNSTILE_FAILED USER_NOT_FOUND RATE_LIMITED "
    "TURNSTILE_UNAVAILABLE"
)
ROW = f"{SESSION} COLLECTION_NOT_FOUND"
REFUSALS = {
    "GET /api/config": "",
    "POST /api/auth/login": f"{BODY} {LOGIN}",
    "POST /api/auth/refresh": f"{SESSION} RATE_LIMITED",
    "POST /api/auth/logout": SESSION,
    "GET /api/auth/me": SESSION,
    "POST /api/auth/ticket": f"{SESSION} RATE_LIMITED",
    "GET /api/users": "",
    "GET /api/auth/accounts": "",
    "GET /api/rooms": "AUTH_EXPIRED",
    "GET /api/rooms/{id}/messages": f"{SESSION} VALIDATION_ERROR {ROOM}",
    "POST /api/presence": f"{SESSION} {BODY} RATE_LIMITED",
    "GET /api/data/users": f"{ROW} VALIDATION_ERROR",
    "POST /api/data/users": f"{ROW} FORBIDDEN",
    "GET /api/data/users/{id}": f"{ROW} PRECONDITION_FAILED",
    "PATCH /api/data/users/{id}": (
        f"{ROW} {BODY} FORBIDDEN CONFLICT PRECONDITION_FAILED RATE_LIMITED"
    ),
    "DELETE /api/data/users/{id}": f"{ROW} FORBIDDEN",
    "GET /api/data/orders": f"{ROW} VALIDATION_ERROR",
    "POST /api/data/orders": (f"{ROW} {BODY} CONFLICT RATE_LIMITED QUOTA_EXCEEDED"),
    "GET /api/data/orders/{id}": f"{ROW} PRECONDITION_FAILED",
    "PATCH /api/data/orders/{id}": (
        f"{ROW} {BODY} FORBIDDEN CONFLICT PRECONDITION_FAILED RATE_LIMITED "
        "QUOTA_EXCEEDED"
    ),
    "DELETE /api/data/orders/{id}": (
        f"{ROW} FORBIDDEN PRECONDITION_FAILED RATE_LIMITED"
    ),
    "GET /api/ws/room/{id}": (
        f"{SESSION} VALIDATION_ERROR {ROOM} {UPGRADE} RATE_LIMITED"
    ),
    "GET /api/ws/presence": f"{SESSION} {UPGRADE}",
    "GET /healthz": "",
    "GET /readyz": "",
    "GET /metrics": "",
    "GET /api/openapi.json": "",
    "GET /api/asyncapi.json": "",
}
"""wire.md's table of endpoints: what each may refuse with, beside the rest."""


@pytest.fixture(scope="module")
def document() -> Json:
    return openapi.document([*OPERATIONS, *on_collections(COLLECTIONS)])


def operations(document: Json) -> dict[str, Json]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def resolved(document: Json, given: Json) -> Json:
    while "$ref" in given:
        found = document
        for part in given["$ref"][2:].split("/"):
            found = found[part]
        given = found
    return given


def codes_of(document: Json, operation: Json) -> dict[str, int]:
    """Code → status, from the examples of an operation's answers."""
    return {
        code: int(status)
        for status, answer in operation["responses"].items()
        for content in resolved(document, answer).get("content", {}).values()
        for code in content.get("examples", {})
    }


PAGES = re.compile(r"/docs|/web/|/$")
"""For people: described by what they show."""


@wire("1 documents")
def test_a_public_validator_takes_it(document: Json) -> None:
    assert document["openapi"] == "3.1.0"
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())


@wire("1 documents")
def test_it_names_every_route_and_no_other(document: Json) -> None:
    routed = set()
    for route in routes():
        if not isinstance(route, Route) or PAGES.match(route.path):
            continue
        path = re.sub(r":\w+}", "}", route.path)
        methods = {*(route.methods or ())} - {"HEAD"}
        names = COLLECTIONS if "{collection}" in path else [""]
        routed |= {
            f"{method} {path.replace('{collection}', name)}"
            for method in methods
            for name in names
        }
    assert set(operations(document)) == routed == set(REFUSALS)


@wire("1 documents", "1 everywhere")
@pytest.mark.parametrize("name", REFUSALS)
def test_an_endpoint_names_every_code_of_its_row(document: Json, name: str) -> None:
    found = codes_of(document, operations(document)[name])
    foreign = "" if name.startswith("GET") else "ORIGIN_NOT_ALLOWED"
    named = f"{REFUSALS[name]} {foreign} {EVERYWHERE} {BELOW}"
    assert set(found) == set(named.split())
    for code, status in found.items():
        assert status == ERRORS[code].status


def test_what_is_refused_below_the_application_is_named_as_it_is() -> None:
    for code in BELOW.split():
        assert MALFORMED[ERRORS[code].status] == (code, ERRORS[code].message)


def test_every_example_fits_its_schema(document: Json) -> None:
    checked = 0
    for name, operation in operations(document).items():
        given = [resolved(document, each) for each in operation["responses"].values()]
        given += [operation["requestBody"]] if "requestBody" in operation else []
        for one in given:
            for content in one.get("content", {}).values():
                examples = [
                    each["value"] for each in content.get("examples", {}).values()
                ]
                examples += [content["example"]] if "example" in content else []
                for example in examples:
                    checked += 1
                    check(document, content["schema"], example, name)
        for one in operation.get("parameters", ()):
            if "example" in one:
                check(document, one["schema"], one["example"], name)
    assert checked > 200


def check(document: Json, schema: Json, example: Any, name: str) -> None:
    whole = {**schema, "components": document["components"]}
    problems = list(jsonschema.Draft202012Validator(whole).iter_errors(example))
    assert not problems, (name, problems)


def test_a_session_is_wanted_where_the_wire_wants_one(document: Json) -> None:
    for name, operation in operations(document).items():
        wanted = [each for each in operation["security"] if each]
        assert bool(wanted) == ("AUTH_EXPIRED" in REFUSALS[name]), name
        assert ({} in operation["security"]) == (name == "GET /api/rooms")


@wire("1 documents")
async def test_it_is_served_with_a_tag(valkey_url: str) -> None:
    async with gateway(valkey_url) as running, running.client() as http:
        first = await http.get("/api/openapi.json")
        assert first.status_code == 200
        assert first.headers["content-type"] == "application/json"
        assert first.headers["cache-control"] == "no-cache"
        assert first.headers["x-content-type-options"] == "nosniff"
        assert not list(OpenAPIV31SpecValidator(first.json()).iter_errors())
        # This gateway has no collections, and does not claim any.
        assert set(operations(first.json())) == {
            name for name in REFUSALS if "/data/" not in name
        }
        known = {"If-None-Match": f'"other", W/{first.headers["etag"]}'}
        again = await http.get("/api/openapi.json", headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        other = await http.get("/api/openapi.json", headers={"If-None-Match": '"x"'})
        assert other.content == first.content
