"""`/api/data` on two gateways over one database, SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest

from cfmessenger.asgi import sql_of
from cfmessenger.data.store import Store
from gateway.app import create_app
from gateway.middleware import BODY_LIMIT
from tests.gateway.edge import (
    Gateway,
    ListedLog,
    RecordingHub,
    data_of,
    gateway,
    refused,
    serving,
    settings_for,
)
from tests.wire_rows import wire

ITEM = {"name": "tea", "quantity": 2, "unitPrice": 350}
ORDER = {"items": [ITEM], "currency": "EUR"}
NOWHERE = "/api/data/orders/00000000-0000-0000-0000-000000000000"

Pair = tuple[Gateway, Gateway]


@asynccontextmanager
async def sql_gateway(
    valkey_url: str, database_url: str, **more: str
) -> AsyncIterator[Gateway]:
    usual = {"database_url": database_url, "write_rate": "0"}
    settings = settings_for(valkey_url, **usual | more)
    app = create_app(settings, RecordingHub, ListedLog(), sql_of(settings))
    async with serving(app, settings) as running:
        yield running


@pytest.fixture(scope="module")
async def pair(valkey_url: str, new_database: Callable[[], str]) -> AsyncIterator[Pair]:
    url = new_database()
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(sql_gateway(valkey_url, url)),
            await stack.enter_async_context(sql_gateway(valkey_url, url)),
        )


class Person:
    """A user's requests, at one gateway and the other in turn."""

    def __init__(self, user_id: str, clients: list[httpx2.AsyncClient]) -> None:
        self.id = user_id
        self._clients = itertools.cycle(clients)

    async def __call__(
        self, method: str, path: str, json: Any = None, **how: Any
    ) -> httpx2.Response:
        headers = {
            name.replace("_", "-"): value
            for name, value in how.items()
            if name not in ("content", "params")
        }
        rest = {name: how[name] for name in ("content", "params") if name in how}
        if json is not None:
            rest["json"] = json
        return await next(self._clients).request(method, path, headers=headers, **rest)

    async def order(self, **more: Any) -> Any:
        """A new order's row."""
        return data_of(await self("POST", "/api/data/orders", ORDER | more), 201)

    async def list(self, collection: str = "orders", **params: Any) -> Any:
        return data_of(await self("GET", f"/api/data/{collection}", params=params))


_people = itertools.cycle(range(1, 19))


@pytest.fixture
async def people(pair: Pair) -> AsyncIterator[Callable[[], Any]]:
    """Signs in one user after another, none of whom the test has met."""
    async with AsyncExitStack() as stack:

        async def somebody() -> Person:
            user_id = f"user_{next(_people)}"
            token = await pair[0].login(user_id)
            clients = [
                await stack.enter_async_context(each.client(token)) for each in pair
            ]
            person = Person(user_id, clients)
            for row in (await person.list(limit=100))["items"]:
                await person("DELETE", f"/api/data/orders/{row['id']}")
            return person

        yield somebody


@pytest.fixture
async def ada(people: Callable[[], Any]) -> Person:
    person: Person = await people()
    return person


@pytest.fixture
async def bob(people: Callable[[], Any]) -> Person:
    person: Person = await people()
    return person


# Orders, from placed to gone.


@wire("1 data list", "1 data row", "1 absent not null")
async def test_an_order_is_made_read_changed_and_deleted(ada: Person) -> None:
    answer = await ada("POST", "/api/data/orders", ORDER)
    made = data_of(answer, 201)
    path = f"/api/data/orders/{made['id']}"
    assert answer.headers["location"] == path
    assert list(made) == [
        *("id", "ownerId", "items", "currency", "status", "createdAt", "updatedAt")
    ]
    assert made["ownerId"] == ada.id and made["status"] == "placed"
    assert made["items"] == [ITEM] and made["currency"] == "EUR"
    assert type(made["createdAt"]) is int and made["createdAt"] == made["updatedAt"]

    read = await ada("GET", path)
    assert data_of(read) == made
    assert read.headers["etag"] == answer.headers["etag"]
    assert (await ada.list())["items"] == [made]
    head = await ada("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")

    changed = await ada("PATCH", path, {"status": "paid"})
    row = data_of(changed)
    assert row == made | {"status": "paid", "updatedAt": row["updatedAt"]}
    assert row["updatedAt"] >= made["updatedAt"]
    assert changed.headers["etag"] != read.headers["etag"]

    assert data_of(await ada("DELETE", path)) == row
    refused(await ada("GET", path), 404, "NOT_FOUND")
    refused(await ada("DELETE", path), 404, "NOT_FOUND")
    refused(await ada("PATCH", path, {"status": "shipped"}), 404, "NOT_FOUND")
    assert await ada.list() == {"items": []}


async def test_an_illegal_step_is_a_conflict_that_changes_nothing(ada: Person) -> None:
    made = await ada.order()
    path = f"/api/data/orders/{made['id']}"
    message = refused(await ada("PATCH", path, {"status": "shipped"}), 409, "CONFLICT")
    assert message == "status: an order that is placed cannot become shipped"
    assert data_of(await ada("GET", path)) == made
    data_of(await ada("PATCH", path, {"currency": "GBP"}))
    data_of(await ada("PATCH", path, {"status": "paid"}))
    answer = await ada("PATCH", path, {"currency": "USD"})
    assert refused(answer, 409, "CONFLICT").startswith("currency: is settled once")


# Who may do what.


@wire("1 data list", "1 data row")
async def test_nobody_learns_of_anothers_orders(ada: Person, bob: Person) -> None:
    """Reading, changing and deleting them is what it is for an id that never was."""
    made = await ada.order()
    for row_id in (made["id"], "never-was"):
        path = f"/api/data/orders/{row_id}"
        calls = [
            bob("GET", path),
            bob("PATCH", path, {"status": "paid"}),
            bob("PATCH", path, {"status": "shipped"}),
            bob("PATCH", path, {"status": "paid"}, if_match='"1"'),
            bob("PATCH", path, {"status": "paid"}, if_match='"9"'),
            bob("DELETE", path),
            bob("DELETE", path, if_match="*"),
            bob("GET", path, if_none_match="*"),
        ]
        for call in calls:
            answer = await call
            refused(answer, 404, "NOT_FOUND", "There is nothing here.")
            assert "etag" not in answer.headers
    assert await bob.list() == {"items": []}
    assert await bob.list(ownerId=ada.id) == {"items": []}
    assert await bob.list(id=made["id"]) == {"items": []}
    assert (await ada.list())["items"] == [made]


@wire("1 data list", "1 data row")
async def test_people_are_read_by_all_and_changed_by_themselves(
    ada: Person, bob: Person
) -> None:
    path = f"/api/data/users/{ada.id}"
    row = data_of(await bob("GET", path))
    assert {"id", "email", "displayName", "avatarId", "isAiBot"} <= set(row)
    assert not {"own", "listed", "revision", "status"} & set(row)
    assert None not in row.values()
    everybody = (await bob.list("users", limit=100))["items"]
    assert len(everybody) > 20 and row in everybody

    change = {"displayName": "Mallory"}
    refused(await bob("PATCH", path, change), 403, "FORBIDDEN")
    refused(await bob("PATCH", path, change, if_match='"x"'), 403, "FORBIDDEN")
    refused(await bob("PATCH", "/api/data/users/bot_dialup", change), 403, "FORBIDDEN")
    refused(await bob("PATCH", "/api/data/users/x", change), 404, "NOT_FOUND")
    refused(await bob("GET", "/api/data/users/x"), 404, "NOT_FOUND")
    for who in (ada, bob):
        refused(await who("DELETE", path), 403, "FORBIDDEN")
        refused(await who("POST", "/api/data/users", {"id": "x"}), 403, "FORBIDDEN")
        refused(await who("POST", "/api/data/users", content=b"{"), 403, "FORBIDDEN")
    assert data_of(await bob("GET", path)) == row


async def test_ones_own_name_and_message(pair: Pair, ada: Person) -> None:
    path = f"/api/data/users/{ada.id}"
    told = {"displayName": "Ada \u2728", "personalMessage": "brb; DROP TABLE users"}
    row = data_of(await ada("PATCH", path, told))
    assert row == row | told
    assert data_of(await ada("GET", path)) == row
    row = data_of(await ada("PATCH", path, {"personalMessage": ""}))
    assert "personalMessage" not in row and row["displayName"] == told["displayName"]
    for body, message in [
        ({"displayName": " \u200b"}, "displayName: must be text of 1-50 characters"),
        ({"displayName": "a\u202e"}, "displayName: must be text of 1-50 characters"),
        ({"email": "a@b.example"}, "email: is not a field that can be given here"),
        ({"personalMessage": "x" * 201}, "personalMessage: must be text of 0-200"),
        ({"personalMessage": "\u2800 "}, "personalMessage: must be text of 0-200"),
        ({"displayName": "\u3164"}, "displayName: must be text of 1-50"),
    ]:
        answer = await ada("PATCH", path, body)
        assert refused(answer, 400, "VALIDATION_ERROR").startswith(message)
    assert data_of(await ada("GET", path)) == row


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/data/orders"),
        ("POST", "/api/data/orders"),
        ("GET", NOWHERE),
        ("PATCH", NOWHERE),
        ("DELETE", NOWHERE),
        ("GET", "/api/data/nothing"),
        ("POST", "/api/data/users"),
    ],
)
@wire("1 data list", "1 data row", "1 AUTH")
async def test_without_a_session_nothing_is_said(
    pair: Pair, method: str, path: str
) -> None:
    async with pair[0].client() as http:
        refused(await http.request(method, path), 401, "AUTH_REQUIRED")
    async with pair[0].client("x" * 43) as http:
        refused(await http.request(method, path), 401, "AUTH_EXPIRED")


@pytest.mark.parametrize(
    "name",
    ["nothing", "Orders", "alembic_version", "idempotency_keys", "orders%00", "'"],
)
async def test_a_collection_that_is_none(ada: Person, name: str) -> None:
    for method, path in [
        ("GET", name),
        ("POST", name),
        ("GET", f"{name}/1"),
        ("PATCH", f"{name}/1"),
        ("DELETE", f"{name}/1"),
    ]:
        answer = await ada(method, f"/api/data/{path}")
        refused(answer, 404, "COLLECTION_NOT_FOUND", "There is no such collection.")


async def test_methods_and_paths_that_are_none(ada: Person) -> None:
    for path, allowed in [
        ("/api/data/orders", {"GET", "HEAD", "POST"}),
        (NOWHERE, {"GET", "HEAD", "PATCH", "DELETE"}),
    ]:
        answer = await ada("PUT", path, {})
        refused(answer, 405, "METHOD_NOT_ALLOWED")
        assert set(answer.headers["allow"].split(", ")) == allowed
    for path in (
        "/api/data",
        "/api/data/",
        "/api/data/orders/",
        "/api/data/orders/a/b",
    ):
        refused(await ada("GET", path), 404, "NOT_FOUND")


# Lists.


@wire("1 data pages")
async def test_pages_of_a_list(ada: Person) -> None:
    made = [await ada.order(currency="EUR") for _ in range(5)]
    for change, row in zip(["GBP", "GBP", "JPY"], made, strict=False):
        await ada("PATCH", f"/api/data/orders/{row['id']}", {"currency": change})
    for sort in ("currency", "-currency", "createdAt", "-updatedAt", "id"):
        found: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            data = await ada.list(sort=sort, limit=2, **cursor)
            found += data["items"]
            if "nextCursor" not in data:
                break
            cursor = {"cursor": data["nextCursor"]}
        name = sort.lstrip("-")
        keys = [(row[name], row["id"]) for row in found]
        assert len(keys) == 5 and keys == sorted(keys, reverse=sort[0] == "-")
    found = (await ada.list(currency="GBP", status="placed"))["items"]
    assert {row["id"] for row in found} == {row["id"] for row in made[:2]}
    assert await ada.list(currency="GBP", status="paid") == {"items": []}


@wire("1 data pages")
async def test_a_cursor_that_is_foreign_or_garbled(ada: Person, bob: Person) -> None:
    for _ in range(2):
        await ada.order()
    cursor = (await ada.list(limit=1, sort="id"))["nextCursor"]
    for who, params in [
        (ada, {"cursor": cursor}),
        (ada, {"cursor": cursor, "sort": "-id"}),
        (ada, {"cursor": cursor, "sort": "id", "currency": "EUR"}),
        (ada, {"cursor": cursor[:-2], "sort": "id"}),
        (ada, {"cursor": "' OR '1'='1", "sort": "id"}),
        (ada, {"cursor": ""}),
        (bob, {"cursor": cursor, "sort": "id"}),
    ]:
        answer = await who("GET", "/api/data/orders", params=params)
        assert refused(answer, 400, "VALIDATION_ERROR").startswith("cursor: ")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=many", "limit: must be a number"),
        ("sort=nothing", "sort: must be one of"),
        ("colour=red", "colour: is not a field to filter by"),
        ("items=x", "items: is not a field to filter by"),
        ("status=lost", "status: must be placed, paid, shipped or cancelled"),
        ("createdAt=x", "createdAt: is not of the right kind"),
        ("id=%00", "id: is not of the right kind"),
        ("status=paid&status=placed", "status: may be given once"),
        ("%27%3B--=1", "query: is not a field to filter by"),
    ],
)
async def test_a_bad_parameter_is_named(ada: Person, query: str, message: str) -> None:
    answer = await ada("GET", f"/api/data/orders?{query}")
    assert refused(answer, 400, "VALIDATION_ERROR").startswith(message)


SPELLS = [
    "' OR '1'='1",
    "'; DROP TABLE orders; --",
    '" OR ""="',
    "%",
    "_",
    "\\",
    "$1",
    ":id",
    "?",
    "${x}",
    "1; SELECT pg_sleep(9)",
    "\ufffd\U0001f600",
]


@pytest.mark.parametrize("spell", SPELLS)
async def test_what_means_something_to_sql_is_inert_everywhere(
    ada: Person, spell: str
) -> None:
    made = await ada.order(items=[ITEM | {"name": spell}])
    assert made["items"][0]["name"] == spell
    path = f"/api/data/users/{ada.id}"
    row = data_of(await ada("PATCH", path, {"displayName": spell}))
    assert row["displayName"] == spell
    found = (await ada.list("users", displayName=spell))["items"]
    assert [each["id"] for each in found] == [ada.id]
    for name in ("id", "ownerId"):
        assert await ada.list(**{name: spell}) == {"items": []}
    for name in ("sort", "limit", "cursor", "status", "currency", spell):
        answer = await ada("GET", "/api/data/orders", params={name: spell})
        refused(answer, 400, "VALIDATION_ERROR")
    quoted = httpx2.URL("http://x").copy_with(params={"": spell}).query.decode()[1:]
    quoted = quoted.replace("+", "%20")
    refused(await ada("GET", f"/api/data/orders/{quoted}"), 404, "NOT_FOUND")
    refused(await ada("DELETE", f"/api/data/orders/{quoted}"), 404, "NOT_FOUND")
    answer = await ada("GET", f"/api/data/{quoted}")
    refused(answer, 404, "COLLECTION_NOT_FOUND")
    assert (await ada.list())["items"] == [made]


@pytest.mark.parametrize("row_id", ["%00", "a%00b", "%ed%a0%80", "%ff", "x" * 1500])
async def test_an_id_that_can_be_no_id(ada: Person, row_id: str) -> None:
    path = f"/api/data/orders/{row_id}"
    for method, body in [("GET", None), ("DELETE", None), ("PATCH", {})]:
        refused(await ada(method, path, body), 404, "NOT_FOUND")


# Bodies.


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "INVALID_JSON"),
        (b"", 400, "INVALID_JSON"),
        (b'{"currency":"\xff"}', 400, "INVALID_JSON"),
        (b'{"items":[{"name":"\\ud800"}]}', 400, "INVALID_JSON"),
        (b'{"items":[{"name":"a\\u0000b"}]}', 400, "VALIDATION_ERROR"),
        (b'{"items":null,"currency":"EUR"}', 400, "VALIDATION_ERROR"),
        (b"[]", 400, "VALIDATION_ERROR"),
        (b'"' + b"x" * BODY_LIMIT + b'"', 413, "PAYLOAD_TOO_LARGE"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_bodies_that_are_refused(
    ada: Person, content: bytes, status: int, code: str
) -> None:
    made = await ada.order()
    path = f"/api/data/orders/{made['id']}"
    refused(await ada("POST", "/api/data/orders", content=content), status, code)
    refused(await ada("PATCH", path, content=content), status, code)
    assert (await ada.list())["items"] == [made]


@wire("1 media types")
async def test_media_types(ada: Person) -> None:
    body = b'{"items":[{"name":"x","quantity":1,"unitPrice":1}],"currency":"EUR"}'
    for kind in ("application/json", "text/plain;charset=UTF-8"):
        answer = await ada("POST", "/api/data/orders", content=body, content_type=kind)
        data_of(answer, 201)
    for kind in ("text/html", "application/merge-patch+json"):
        answer = await ada("POST", "/api/data/orders", content=body, content_type=kind)
        refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
        answer = await ada("PATCH", NOWHERE, content=body, content_type=kind)
        refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 1.5}, "items[0].quantity"),
        ({"quantity": 10**30}, "items[0].quantity"),
        ({"unitPrice": 2**63}, "items[0].unitPrice"),
        ({"unitPrice": -1}, "items[0].unitPrice"),
        ({"name": None}, "items[0].name"),
        ({"more": 1}, "items[0].more"),
    ],
)
async def test_values_out_of_range_name_the_field(
    ada: Person, change: dict[str, Any], field: str
) -> None:
    body = ORDER | {"items": [ITEM | change]}
    answer = await ada("POST", "/api/data/orders", body)
    assert refused(answer, 400, "VALIDATION_ERROR").startswith(f"{field}: ")


async def test_the_largest_total_there_may_be(ada: Person) -> None:
    items = [{"name": "x", "quantity": 1, "unitPrice": 10**12}] * 100
    assert (await ada.order(items=items))["items"] == items
    items[0] = {"name": "x", "quantity": 10**6, "unitPrice": 10**10}
    answer = await ada("POST", "/api/data/orders", ORDER | {"items": items})
    refused(answer, 400, "VALIDATION_ERROR", "items: must have a total below 2^53")


# Preconditions.


@wire("1 data preconditions")
async def test_an_update_is_not_lost(ada: Person) -> None:
    made = await ada("POST", "/api/data/orders", ORDER)
    path, tag = made.headers["location"], made.headers["etag"]
    assert not tag.startswith("W/")
    paid = await ada("PATCH", path, {"status": "paid"}, if_match=tag)
    assert data_of(paid)["status"] == "paid"
    for stale in (tag, f"W/{paid.headers['etag']}", '"x"', "nonsense", ""):
        answer = await ada("PATCH", path, {"status": "shipped"}, if_match=stale)
        refused(answer, 412, "PRECONDITION_FAILED", "The row has changed since.")
        answer = await ada("DELETE", path, if_match=stale)
        refused(answer, 412, "PRECONDITION_FAILED")
        refused(await ada("GET", path, if_match=stale), 412, "PRECONDITION_FAILED")
    answer = await ada("PATCH", path, {}, if_none_match=paid.headers["etag"])
    refused(answer, 412, "PRECONDITION_FAILED")
    several = f'"x", {paid.headers["etag"]}'
    data_of(await ada("PATCH", path, {"status": "shipped"}, if_match=several))
    data_of(await ada("DELETE", path, if_match="*"))
    refused(await ada("DELETE", path, if_match="*"), 404, "NOT_FOUND")


@wire("1 data preconditions")
async def test_what_is_known_is_not_sent_again(ada: Person) -> None:
    made = await ada("POST", "/api/data/orders", ORDER)
    path, tag = made.headers["location"], made.headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = await ada("GET", path, if_none_match=known)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag and answer.headers["x-request-id"]
    data_of(await ada("PATCH", path, {"status": "paid"}))
    assert data_of(await ada("GET", path, if_none_match=tag))["status"] == "paid"


async def test_of_writers_at_once_one_is_let_through(ada: Person) -> None:
    made = await ada("POST", "/api/data/orders", ORDER)
    path, tag = made.headers["location"], made.headers["etag"]
    calls = [
        ada("PATCH", path, {"currency": code}, if_match=tag)
        for code in ("GBP", "JPY", "USD", "SEK", "NOK", "DKK")
    ]
    statuses = sorted(each.status_code for each in await asyncio.gather(*calls))
    assert statuses == [200, 412, 412, 412, 412, 412]


# Idempotency keys.


@wire("1 data retry")
async def test_a_retry_makes_one_row(ada: Person, bob: Person) -> None:
    def post(who: Person, body: Any = ORDER, key: str = "k1") -> Any:
        return who("POST", "/api/data/orders", body, idempotency_key=key)

    key = f"{ada.id}-{bob.id}"
    answers = await asyncio.gather(*(post(ada, key=key) for _ in range(6)))
    rows = [data_of(each, 201) for each in answers]
    assert all(row == rows[0] for row in rows)
    assert {each.headers["location"] for each in answers} == {
        f"/api/data/orders/{rows[0]['id']}"
    }
    same = {"currency": "EUR", "items": [dict(reversed(ITEM.items()))]}
    assert data_of(await post(ada, same, key), 201) == rows[0]
    message = refused(
        await post(ada, ORDER | {"currency": "GBP"}, key), 409, "CONFLICT"
    )
    assert message == "Idempotency-Key: was used for something else"
    assert (await ada.list())["items"] == [rows[0]]
    assert data_of(await post(bob, key=key), 201)["ownerId"] == bob.id


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\xe9"])
async def test_a_key_that_is_none(ada: Person, key: str) -> None:
    answer = await ada(
        "POST", "/api/data/orders", ORDER, idempotency_key=key.encode("latin-1")
    )
    message = refused(answer, 400, "VALIDATION_ERROR")
    assert message == "Idempotency-Key: must be 1-255 visible ASCII characters"
    assert await ada.list() == {"items": []}


@wire("1 data retry")
async def test_a_key_outlives_the_gateways(
    valkey_url: str, new_database: Callable[[], str]
) -> None:
    url, rows = new_database(), []
    for _ in range(2):
        async with sql_gateway(valkey_url, url) as running:
            async with running.client(await running.login("user_19")) as http:
                answer = await http.post(
                    "/api/data/orders", json=ORDER, headers={"Idempotency-Key": "k"}
                )
                rows.append(data_of(answer, 201))
    assert rows[0] == rows[1]


# How often, and how much.


async def test_a_users_writes_have_one_rate_at_all_gateways(
    empty_valkey: str, new_database: Callable[[], str]
) -> None:
    url, limits = new_database(), {"write_rate": "6/60"}
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            running = sql_gateway(empty_valkey, url, **limits)
            each = await stack.enter_async_context(running)
            # Of two sessions, too.
            token = await each.login("user_1")
            clients.append(await stack.enter_async_context(each.client(token)))
            other = each.client(await each.login("user_2"))
            bystander = await stack.enter_async_context(other)
        caller = Person("user_1", clients)
        for _ in range(2):
            row = await caller.order()
            path = f"/api/data/orders/{row['id']}"
            data_of(await caller("PATCH", path, {"currency": "GBP"}))
            data_of(await caller("DELETE", path))
        for method, path, body in [
            ("POST", "/api/data/orders", ORDER),
            ("PATCH", NOWHERE, {}),
            ("DELETE", NOWHERE, None),
            ("PATCH", "/api/data/users/user_1", {"displayName": "again"}),
        ]:
            answer = await caller(method, path, body)
            refused(answer, 429, "RATE_LIMITED")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        bad = await caller("POST", "/api/data/orders", {})
        refused(bad, 400, "VALIDATION_ERROR")  # what is wrong is said all the same
        assert await caller.list() == {"items": []}
        answer = await bystander.post("/api/data/orders", json=ORDER)
        data_of(answer, 201)


async def test_who_keeps_too_much_is_told_what_to_do(
    valkey_url: str, new_database: Callable[[], str]
) -> None:
    limits = {"order_quota": "2"}
    async with sql_gateway(valkey_url, new_database(), **limits) as running:
        async with running.client(await running.login("user_1")) as http:
            caller = Person("user_1", [http])
            first, _ = await caller.order(), await caller.order()
            answer = await caller("POST", "/api/data/orders", ORDER)
            words = "You keep as much as you may: delete something first."
            refused(answer, 403, "QUOTA_EXCEEDED", words)
            data_of(await caller("DELETE", f"/api/data/orders/{first['id']}"))
            await caller.order()


# The database is away.


async def test_a_database_that_is_away_takes_nothing_else_along(
    pair: Pair, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Store("postgresql://cfm@/cfm?host=/nonexistent")
    async with pair[0].client(await pair[0].login(ada.id)) as http:
        monkeypatch.setattr(pair[0].services, "store", away)
        for method, path in [
            ("GET", "/api/data/orders"),
            ("POST", "/api/data/orders"),
            ("GET", NOWHERE),
            ("PATCH", NOWHERE),
            ("DELETE", NOWHERE),
        ]:
            body = ORDER if method == "POST" else {}
            answer = await http.request(
                method, path, json=None if method in ("GET", "DELETE") else body
            )
            refused(answer, 503, "UNAVAILABLE", "Not available right now.")
            assert answer.headers["retry-after"] == "1"
        assert data_of(await http.get("/api/auth/me"))["id"] == ada.id
    await away.aclose()


async def test_a_gateway_without_collections_says_so(valkey_url: str) -> None:
    async with gateway(valkey_url) as running:
        async with running.client(await running.login("user_1")) as http:
            refused(await http.get("/api/data/orders"), 503, "UNAVAILABLE")
