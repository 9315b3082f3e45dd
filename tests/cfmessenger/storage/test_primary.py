"""What a URL means: each host in its turn, and what Sentinels are asked for.

Whom it leads to, with real servers and a real Sentinel, is in `test_server.py`.
"""

import asyncio
from contextlib import aclosing

import pytest

from cfmessenger.addresses import each_of, server_url, with_parameters
from cfmessenger.storage.primary import Candidate, Primary
from tests.cfmessenger.storage.scripted_server import says, server


@pytest.mark.parametrize(
    ("url", "each"),
    [
        ("valkey://h", ["valkey://h"]),
        ("unix:///a,b", ["unix:///a,b"]),
        (
            "valkey://u:p%2C@a:1,[::1]:2,c/3?db=1",
            [
                *("valkey://u:p%2C@a:1/3?db=1", "valkey://u:p%2C@[::1]:2/3?db=1"),
                "valkey://u:p%2C@c/3?db=1",
            ],
        ),
    ],
)
def test_a_url_of_several_hosts_is_one_of_each(url: str, each: list[str]) -> None:
    assert each_of(url) == each


def test_parameters_are_added_replaced_and_taken_away() -> None:
    assert with_parameters("unix:///a", db="1") == "unix:///a?db=1"
    assert with_parameters("unix:///a?db=1", db=None) == "unix:///a"
    assert with_parameters("unix:///a?db=1&username=", db="2", ssl_ca_certs="/x") == (
        "unix:///a?db=2&username=&ssl_ca_certs=%2Fx"
    )
    same = "valkey://h?username=%61"
    assert with_parameters(same, db=None) == same


def test_a_servers_url_has_what_sentinels_do_not_know() -> None:
    url = (
        "valkeys-sentinel://u:p%40@s1:1,s2/chat?db=2&sentinel_username=w"
        "&sentinel_password=hush&ssl_ca_certs=%2Fca&replicas=1"
    )
    assert server_url(url, "10.0.0.1:6379") == (
        "valkeys://u:p%40@10.0.0.1:6379?db=2&ssl_ca_certs=%2Fca&replicas=1"
    )
    assert server_url("unix://u:p@/s?db=1", "h:1") == "valkey://u:p@h:1?db=1"
    assert server_url("valkey://u:p@a,b/3", "h:1") == "valkey://u:p@h:1/3"


@pytest.mark.parametrize(
    "url",
    [
        *("valkey-sentinel://h", "valkey-sentinel://h/a/b", "valkey://a,b:port"),
        *("valkey-sentinel://h/chat?protocol=3", "http://a,b", "valkey://a,h:1:2"),
    ],
)
def test_urls_that_cannot_be_meant(url: str) -> None:
    with pytest.raises(ValueError):
        Primary(url)


@pytest.mark.parametrize(
    ("url", "several"),
    [
        *(("valkey://h", False), ("unix:///s", False)),
        *(("valkey://a,b", True), ("valkey-sentinel://h/chat", True)),
    ],
)
def test_whether_it_names_more_than_one(url: str, several: bool) -> None:
    assert Primary(url).several is several


async def _first(primary: Primary) -> Candidate:
    async with aclosing(primary.candidates(2.0)) as found:
        async for each in found:
            if isinstance(each, Candidate):
                return each
    raise AssertionError("none")


async def test_whoever_did_not_help_has_its_turn_after_the_others() -> None:
    primary = Primary("valkey://127.0.0.1:1,127.0.0.1:2")
    async with aclosing(primary.candidates(2.0)) as found:
        tried = [each async for each in found]
    assert [each.url[-1] for each in tried if isinstance(each, Candidate)] == ["1", "2"]
    async with aclosing(primary.candidates(2.0)) as found:
        await anext(found)
        second = await anext(found)
    assert isinstance(second, Candidate) and second.url.endswith("2")
    assert (await _first(primary)).url.endswith("2")
    assert second.within_s == 1.0


async def test_a_sentinel_that_does_not_know_is_not_the_last_word() -> None:
    knows = b"*2\r\n$8\r\n10.0.0.1\r\n$1\r\n7\r\n"
    async with server(says(b"*-1\r\n")) as one, server(says(knows)) as two:
        at = [each.removeprefix("valkey://") for each in (one, two)]
        primary = Primary(f"valkey-sentinel://u:p@127.0.0.1:1,{','.join(at)}/chat")
        found = await asyncio.wait_for(_first(primary), 10)
    assert found.url == "valkey://u:p@10.0.0.1:7"
