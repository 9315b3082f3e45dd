"""The OpenAPI 3.1 document, made from the table of operations (wire.md §1).

Every operation names every code it may answer with, and each code has its example.
Responses are components, one for each set of codes under a status, so that the same
refusal is described once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from cfmessenger import __version__
from cfmessenger.errors import ERRORS, Where, codes
from gateway.api.docs.examples import NOW
from gateway.api.docs.operation import Operation, Parameter
from gateway.api.docs.schema import (
    JSON,
    components,
    events,
    plain,
    reference,
    schema_of,
)

_REQUEST_ID = "0b7c8f1e-3c8e-4f6b-9d2a-6a1f5f0c2d3e"
_ABOUT = """\
Sign in, look around, and open sockets. Every answer under `/api/` is an envelope:
`{success, data?, error?: {code, message}, meta: {timestamp, requestId}}`, with exactly
one of `data` and `error`. `requestId` is the caller's `X-Request-Id` when it is 1-64 of
`A-Za-z0-9._-`, else a new UUID; it is in the `X-Request-Id` header too.

A session is presented as `Authorization: Bearer <sessionId>`. AUTH_REQUIRED: nothing
was presented; AUTH_EXPIRED: what was presented is not valid (any more). There are no
cookies. A body is JSON, sent as `application/json`, as `text/plain` or without a type;
at most 64 KiB. An optional field is absent, never null; every time is integer Unix
milliseconds.

The WebSockets are described by [AsyncAPI](/api/asyncapi.json)."""
_TAGS = {
    "Sessions": "Signing in, staying in, signing out.",
    "People and rooms": "Who is there, which rooms there are, and what was said.",
    "Data": "Collections of rows: a list, a row, and changes under conditions.",
    "WebSockets": "The handshakes; the frames are AsyncAPI's.",
    "Operation": "For whoever runs it, and the documents.",
}
_HEADERS: JSON = {
    "X-Request-Id": {
        "description": "The id of this request, on every log line of it.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Retry-After": {
        "description": "Seconds to wait.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Allow": {
        "description": "The methods of this path.",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "Pass it as `If-None-Match`: 304 while nothing has changed.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "Where the new row is.",
        "required": True,
        "schema": {"type": "string"},
    },
}
_OF_A_CODE = {
    405: "Allow",
    429: "Retry-After",
    503: "Retry-After",
}
_META: JSON = {
    "type": "object",
    "required": ["timestamp", "requestId"],
    "properties": {
        "timestamp": {"type": "integer", "description": "Unix time in milliseconds."},
        "requestId": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "additionalProperties": False,
}
_SUCCESS: JSON = {
    "description": "The envelope around `data`.",
    "type": "object",
    "required": ["success", "data", "meta"],
    "properties": {
        "success": {"const": True},
        "data": {},
        "meta": reference("Meta"),
    },
    "additionalProperties": False,
}
_FAILURE: JSON = {
    "description": "The envelope around an error.",
    "type": "object",
    "required": ["success", "error", "meta"],
    "properties": {
        "success": {"const": False},
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "pattern": "^[A-Z_]+$"},
                "message": {"type": "string"},
            },
            "additionalProperties": False,
        },
        "meta": reference("Meta"),
    },
    "additionalProperties": False,
}
SECURITY: dict[str, JSON] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The `sessionId` of a login.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "From `POST /api/auth/ticket`: once, within 30 s. Preferred.",
    },
    "subprotocol": {
        "type": "apiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": "`cfm.v1, bearer.<sessionId>`; only `cfm.v1` is echoed.",
    },
    "sessionId": {
        "type": "apiKey",
        "in": "query",
        "name": "sessionId",
        "description": "What the original client sends. Never logged.",
    },
}
_ACCESS: dict[str, list[JSON]] = {
    "none": [],
    "optional": [{}, {"bearer": []}],
    "session": [{"bearer": []}],
    "socket": [
        {"ticket": []},
        {"bearer": []},
        {"subprotocol": []},
        {"sessionId": []},
    ],
}


def document(operations: Iterable[Operation]) -> JSON:
    """The OpenAPI document of these operations, as JSON's types."""
    operations = list(operations)
    refusals: dict[str, JSON] = {}
    paths: dict[str, JSON] = defaultdict(dict)
    for each in operations:
        for path, described in _described(each, refusals):
            paths[path][each.method.lower()] = described
    kinds = [kind for each in operations for kind in (each.request, each.data) if kind]
    schemas = (
        events()
        | components(*kinds)
        | {
            "Meta": _META,
            "Success": _SUCCESS,
            "Failure": _FAILURE,
        }
    )
    used = {each.tag for each in operations}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CF Messenger",
            "version": __version__,
            "summary": "A chat messenger of 2005 as durable objects.",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "externalDocs": {"description": "For people", "url": "/docs"},
        "servers": [{"url": "/", "description": "This gateway"}],
        "tags": [
            {"name": name, "description": text}
            for name, text in _TAGS.items()
            if name in used
        ],
        "paths": dict(paths),
        "components": {
            "schemas": schemas,
            "responses": dict(sorted(refusals.items())),
            "headers": _HEADERS,
            "securitySchemes": SECURITY,
        },
        "x-everywhere": sorted(codes(Where.ENDPOINT | Where.BELOW)),
    }


def _described(
    each: Operation, refusals: dict[str, JSON]
) -> Iterable[tuple[str, JSON]]:
    path = _public_path(each.path)
    described: JSON = {
        "operationId": each.name,
        "tags": [each.tag],
        "summary": each.summary,
        "security": _ACCESS[each.auth],
        "responses": _responses(each, refusals),
    }
    if each.description:
        described["description"] = each.description
    if each.parameters:
        described["parameters"] = [_parameter(one) for one in each.parameters]
    if each.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": schema_of(each.request),
                    "example": plain(each.request_example),
                }
            },
        }
    yield path, described


def _public_path(path: str) -> str:
    """Without the router's convertors."""
    return "/".join(
        f"{{{part[1:-1].partition(':')[0]}}}" if part.startswith("{") else part
        for part in path.split("/")
    )


def _parameter(one: Parameter) -> JSON:
    described = {
        "name": one.name,
        "in": one.where,
        "description": one.description,
        "required": one.where == "path",
        "schema": one.schema,
    }
    return described if one.example is None else described | {"example": one.example}


def _responses(each: Operation, refusals: dict[str, JSON]) -> JSON:
    responses: JSON = {}
    if each.status == 101 or each.text or each.data is not None:
        responses[str(each.status)] = _answer(each)
    if "ETag" in each.headers and each.method == "GET":
        responses["304"] = _headed("Nothing has changed.", "ETag")
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in [*each.codes, *codes(Where.BELOW)]:
        by_status[ERRORS[code].status].append(code)
    for status, possible in sorted(by_status.items()):
        name = "-or-".join(possible)
        refusals.setdefault(name, _refusal(status, possible))
        responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
    if each.name == "isReady":
        lines = {"text/plain": {"schema": {"type": "string"}}}
        envelope = refusals["UNAVAILABLE"]
        responses["503"] = envelope | {
            "description": "Not ready: the same lines, or UNAVAILABLE.",
            "headers": _headers(),
            "content": lines | envelope["content"],
        }
    return dict(sorted(responses.items()))


def _answer(each: Operation) -> JSON:
    if each.status == 101:
        return {"description": "The WebSocket is open.", "headers": _headers()}
    if each.text:
        answer = _headed("Plain, without an envelope.", *each.headers)
        kind = "object" if each.text == "application/json" else "string"
        content: JSON = {"schema": {"type": kind}}
        if each.example is not None:
            content["example"] = each.example
        return answer | {"content": {each.text: content}}
    answer = _headed("In an envelope.", *each.headers)
    answer["content"] = {
        "application/json": {
            "schema": {
                "allOf": [
                    reference("Success"),
                    {"properties": {"data": schema_of(each.data)}},
                ]
            },
            "example": _envelope(True, data=plain(each.example)),
        }
    }
    if each.links:
        answer["links"] = {
            operation: {
                "operationId": operation,
                "parameters": {name: f"$response.body#{pointer}"},
            }
            for operation, name, pointer in each.links
        }
    return answer


def _headed(description: str, *names: str) -> JSON:
    return {"description": description, "headers": _headers(*names)}


def _headers(*names: str) -> JSON:
    return {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in ("X-Request-Id", *names)
    }


def _refusal(status: int, possible: list[str]) -> JSON:
    said = {code: ERRORS[code].message for code in possible}
    more = [_OF_A_CODE[status]] if status in _OF_A_CODE else []
    return {
        "description": " ".join(f"{code}: {text}" for code, text in said.items()),
        "headers": _headers(*more),
        "content": {
            "application/json": {
                "schema": {
                    "allOf": [
                        reference("Failure"),
                        {
                            "properties": {
                                "error": {"properties": {"code": {"enum": possible}}}
                            }
                        },
                    ]
                },
                "examples": {
                    code: {
                        "summary": text,
                        "value": _envelope(
                            False, error={"code": code, "message": text}
                        ),
                    }
                    for code, text in said.items()
                },
            }
        },
    }


def _envelope(success: bool, **content: Any) -> JSON:
    meta = {"timestamp": NOW, "requestId": _REQUEST_ID}
    return {"success": success, "meta": meta, **content}
