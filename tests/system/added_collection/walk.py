"""The walk of a collection that was added, over HTTP: what every collection can do.

Run in a copy that has it, by its own interpreter, as
`python -m tests.system.added_collection.walk VALKEY_URL DATABASE_URL`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx2
from openapi_spec_validator import OpenAPIV31SpecValidator

from cfmessenger.asgi import sql_of
from gateway.app import create_app
from tests.gateway.edge import (
    ListedLog,
    RecordingHub,
    data_of,
    refused,
    serving,
    settings_for,
)

NOTES = "/api/data/notes"


async def made_and_read(maya: httpx2.AsyncClient, tom: httpx2.AsyncClient) -> None:
    """A row, its ETag, its repeat, and who may see it."""
    named = {"Idempotency-Key": "n-1"}
    answer = await maya.post(NOTES, json={"text": "milk"}, headers=named)
    row, tag = data_of(answer, 201), answer.headers["ETag"]
    path = f"{NOTES}/{row['id']}"
    assert (row["text"], row["done"], row["ownerId"]) == ("milk", False, "user_1")
    assert answer.headers["Location"] == path
    again = await maya.post(NOTES, json={"text": "milk"}, headers=named)
    assert data_of(again, 201) == row, "a repeat makes no second row"
    assert data_of(await maya.get(path)) == row
    same = await maya.get(path, headers={"If-None-Match": tag})
    assert (same.status_code, same.headers["ETag"]) == (304, tag)
    refused(await tom.get(path), 404, "NOT_FOUND")
    assert data_of(await tom.get(NOTES)) == {"items": []}
    answer = await maya.patch(path, json={"done": True}, headers={"If-Match": tag})
    assert data_of(answer) | {"updatedAt": 0} == row | {"done": True, "updatedAt": 0}
    assert answer.headers["ETag"] != tag
    late = await maya.patch(path, json={"done": False}, headers={"If-Match": tag})
    refused(late, 412, "PRECONDITION_FAILED")
    answer = await maya.post(NOTES, json={"text": ""})
    refused(answer, 400, "VALIDATION_ERROR", "text: must be 1-50 characters")


async def listed_and_limited(maya: httpx2.AsyncClient) -> None:
    """The second row is the last that the quota of two allows."""
    bread = data_of(await maya.post(NOTES, json={"text": "bread"}), 201)
    refused(await maya.post(NOTES, json={"text": "salt"}), 403, "QUOTA_EXCEEDED")
    page = data_of(await maya.get(NOTES, params={"sort": "text", "limit": 1}))
    assert page["items"] == [bread]
    rest = {"sort": "text", "cursor": page["nextCursor"]}
    (milk,) = data_of(await maya.get(NOTES, params=rest))["items"]
    assert data_of(await maya.get(NOTES, params={"done": "true"}))["items"] == [milk]
    assert data_of(await maya.delete(f"{NOTES}/{bread['id']}")) == bread
    assert data_of(await maya.get(NOTES))["items"] == [milk]
    data_of(await maya.post(NOTES, json={"text": "salt"}), 201)


async def documented(anybody: httpx2.AsyncClient) -> None:
    """Concretely, with its row and its example."""
    document: dict[str, Any] = (await anybody.get("/api/openapi.json")).json()
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())
    assert set(document["paths"][NOTES]) == {"get", "post"}
    assert set(document["paths"][NOTES + "/{id}"]) == {"get", "patch", "delete"}
    described = document["components"]["schemas"]
    assert set(described["Note"]["properties"]) == {
        *("id", "ownerId", "text", "done", "updatedAt"),
    }
    assert described["NewNote"]["required"] == ["text"]
    sent = document["paths"][NOTES]["post"]["requestBody"]["content"]
    assert "Milk" in str(sent["application/json"]["example"])


async def walk(valkey_url: str, database_url: str) -> None:
    settings = settings_for(
        valkey_url, database_url=database_url, write_rate="0", order_quota="2"
    )
    app = create_app(settings, RecordingHub, ListedLog(), sql_of(settings))
    async with serving(app, settings) as here:
        tokens = [await here.login(user) for user in ("user_1", "user_2")]
        async with here.client(tokens[0]) as maya, here.client(tokens[1]) as tom:
            await made_and_read(maya, tom)
            await listed_and_limited(maya)
            await documented(maya)


if __name__ == "__main__":
    asyncio.run(walk(*sys.argv[1:]))
