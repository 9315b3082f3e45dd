"""/api/data while PostgreSQL fails over: one gateway goes on with another server."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

from tests.cfmessenger.data.test_servers import BACK_S, two
from tests.gateway.api.test_data import sql_gateway
from tests.gateway.edge import data_of
from tests.patience import Stopwatch

ORDER = {"currency": "EUR", "items": [{"name": "t", "quantity": 1, "unitPrice": 1}]}


async def place(http: httpx2.AsyncClient, key: str) -> Any:
    """As a client does that gets a 503: again, with the same key."""
    for _ in range(3):  # the first waits for 4.5 s by itself
        head = {"Idempotency-Key": key}
        answer = await http.post("/api/data/orders", json=ORDER, headers=head)
        if answer.status_code != 503:
            break
    return data_of(answer, 201)


async def test_orders_go_on_after_a_failover_and_none_is_doubled(
    valkey_url: str,
) -> None:
    with two() as (primary, standby, url):
        async with sql_gateway(valkey_url, url) as edge:
            async with edge.client(await edge.login("user_1")) as http:
                before = await place(http, "k1")
                primary.kill()
                under_way = asyncio.create_task(place(http, "k2"))
                await asyncio.to_thread(standby.promote)
                watch = Stopwatch()
                after = await place(http, "k3")
                found = data_of(await http.get("/api/data/orders"))
                assert watch.seconds < BACK_S
                placed = [before["id"], (await under_way)["id"], after["id"]]
                for key, made in zip(("k1", "k2", "k3"), placed, strict=True):
                    assert (await place(http, key))["id"] == made
                assert {each["id"] for each in found["items"]} <= set(placed)
                found = data_of(await http.get("/api/data/orders"))
                assert sorted(each["id"] for each in found["items"]) == sorted(placed)
