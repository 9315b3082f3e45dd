"""`/api/data/{collection}` and `/api/data/{collection}/{id}` (wire.md §1).

Reads requests and writes answers; the rules are the collection's and the store's. The
checks come in this order: session, collection, whether the method is ever allowed here,
what was sent, the rate of writes, the row (another owner's is not there), whose it is,
the preconditions, the collection's rule, the owner's quota.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from cfmessenger.data.etag import etag, matches
from cfmessenger.data.query import read_query
from cfmessenger.errors import ProtocolError, Unavailable
from gateway.api.endpoints import json_body, profile_of, services_of, session_of
from gateway.api.hub import Services
from gateway.envelope import ok

if TYPE_CHECKING:
    from cfmessenger.data.collection import Collection
    from cfmessenger.data.store import Found, Store

# RFC 8941 would have it in quotes; they are part of the key then, as any character.
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


class _Caller:
    """Who asks, for which collection, of which store."""

    def __init__(
        self, services: Services, store: Store, user_id: str, collection: Collection
    ) -> None:
        self.services = services
        self.store = store
        self.user_id = user_id
        self.collection = collection

    @classmethod
    async def of(cls, request: Request) -> _Caller:
        services = services_of(request)
        session = await session_of(request)
        person = profile_of(services, session)
        if services.store is None:
            raise Unavailable()
        collection = services.store.collections.get(request.path_params["collection"])
        if collection is None:
            raise ProtocolError("COLLECTION_NOT_FOUND")
        return cls(services, services.store, person.id, collection)

    def answer(self, found: Found, status: int = 200) -> Response:
        response = ok(found.row, status)
        response.headers["ETag"] = etag(found.revision)
        return response


async def rows(request: Request) -> Response:
    """GET, POST /api/data/{collection}"""
    caller = await _Caller.of(request)
    if request.method == "POST":
        return await _create(request, caller)
    asked = request.query_params.multi_items()
    query = read_query(caller.collection, caller.user_id, asked)
    found, cursor = await caller.store.page(caller.collection, caller.user_id, query)
    return ok({"items": found} | ({} if cursor is None else {"nextCursor": cursor}))


async def row(request: Request) -> Response:
    """GET, PATCH, DELETE /api/data/{collection}/{id}"""
    caller = await _Caller.of(request)
    row_id = request.path_params["id"]
    if request.method == "PATCH":
        return await _change(request, caller, row_id)
    if request.method == "DELETE":
        return await _delete(request, caller, row_id)
    found = await caller.store.get(caller.collection, caller.user_id, row_id)
    _expect(request, found.revision)
    if _named_in(request, "if-none-match", found.revision):
        return Response(status_code=304, headers={"ETag": etag(found.revision)})
    return caller.answer(found)


async def _create(request: Request, caller: _Caller) -> Response:
    if not caller.collection.creates:
        raise ProtocolError("FORBIDDEN")
    key = _idempotency_key(request)
    sent = caller.collection.read_new(await json_body(request))
    now = caller.services.clock.now()
    await caller.services.write_rate.spend(caller.user_id)
    made = await caller.store.create(caller.collection, caller.user_id, sent, now, key)
    response = caller.answer(made, 201)
    response.headers["Location"] = (
        f"/api/data/{caller.collection.name}/{quote(made.row.id, safe='')}"
    )
    return response


async def _change(request: Request, caller: _Caller, row_id: str) -> Response:
    if not caller.collection.changes:
        raise ProtocolError("FORBIDDEN")
    sent = caller.collection.read_change(await json_body(request))
    services = caller.services
    now, names = services.clock.now(), services.names

    def holds(revision: int) -> bool:
        return _holds(request, revision)

    await services.write_rate.spend(caller.user_id)
    if names is not None and (caller.collection.name, row_id) == (
        "users",
        caller.user_id,
    ):
        return caller.answer(await names.change(row_id, sent, now, holds))
    changed = await caller.store.change(
        caller.collection, caller.user_id, row_id, sent, now, holds
    )
    return caller.answer(changed)


async def _delete(request: Request, caller: _Caller, row_id: str) -> Response:
    if not caller.collection.deletes:
        raise ProtocolError("FORBIDDEN")
    await caller.services.write_rate.spend(caller.user_id)
    deleted = await caller.store.delete(
        caller.collection,
        caller.user_id,
        row_id,
        lambda revision: _holds(request, revision),
    )
    return ok(deleted.row)


# Headers.


def _header(request: Request, name: str) -> str | None:
    """Lines of one name are one list."""
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None


def _named_in(request: Request, name: str, revision: int) -> bool:
    header = _header(request, name)
    return header is not None and matches(header, revision, weak=True)


def _holds(request: Request, revision: int) -> bool:
    header = _header(request, "if-match")
    if header is not None and not matches(header, revision):
        return False
    return request.method in ("GET", "HEAD") or not _named_in(
        request, "if-none-match", revision
    )


def _expect(request: Request, revision: int) -> None:
    if not _holds(request, revision):
        raise ProtocolError("PRECONDITION_FAILED")


def _idempotency_key(request: Request) -> str | None:
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or not _IDEMPOTENCY_KEY.match(given[0]):
        raise ProtocolError(
            "VALIDATION_ERROR",
            "must be 1-255 visible ASCII characters",
            field="Idempotency-Key",
        )
    return given[0]
