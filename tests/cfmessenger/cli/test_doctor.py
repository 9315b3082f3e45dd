"""`cfmessenger doctor`: each thing that is not as it must be is one line and advice."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cfmessenger.cli import doctor as module
from cfmessenger.cli.agreed import agreed
from cfmessenger.cli.doctor import Finding
from cfmessenger.settings import Settings
from cfmessenger.storage.members import Holder, Members, Node
from cfmessenger.storage.server import Server
from cfmessenger.storage.valkey import ReplyError, Valkey
from tests.authority import MISSING, Authority
from tests.valkey_cluster import ValkeyCluster


@pytest.fixture
async def kv(empty_valkey: str) -> AsyncIterator[Valkey]:
    client = Valkey(empty_valkey)
    yield client
    client.close()
    await asyncio.sleep(0)  # the transport closes in the loop's next turn


@pytest.fixture
def nobody() -> str:
    """host:port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


async def found(url: str, **env: str) -> dict[str, Finding]:
    """By what was looked at; of one thing the worst."""
    findings = await module._examine(Settings.load({"CFM_VALKEY_URL": url, **env}))
    order = ("ok", "note", "bad")
    findings.sort(key=lambda each: order.index(each.verdict))
    return {each.what.split()[0]: each for each in findings}


def bad(findings: dict[str, Finding]) -> dict[str, str]:
    return {f.what.split()[0]: f.found for f in findings.values() if f.verdict == "bad"}


async def test_a_machine_by_itself_lacks_nothing(empty_valkey: str) -> None:
    findings = await found(empty_valkey)
    assert bad(findings) == {}
    assert findings["cluster"].found == "none runs on this Valkey"
    assert findings["CFM_DATABASE_URL"].verdict == "note"
    assert findings["clock"].verdict == "ok"


async def test_every_server_of_a_valkey_cluster_is_looked_at(
    valkey_cluster: ValkeyCluster,
) -> None:
    valkey_cluster.clear()
    url, ill = valkey_cluster.url, valkey_cluster.primaries[1]
    ill.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        findings = await module._examine(Settings.load({"CFM_VALKEY_URL": url}))
    finally:
        ill.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
    looked = {each.what for each in findings if each.what.startswith("Valkey ")}
    ports = (node.port for node in valkey_cluster.primaries)
    assert looked == {f"Valkey valkey://127.0.0.1:{port}" for port in ports}
    (wrong,) = [each for each in findings if each.verdict == "bad"]
    assert wrong.what.endswith(f":{ill.port}") and "noeviction" in wrong.found
    assert "tests" not in str(findings)


async def test_a_valkey_that_is_not_there_is_the_finding(nobody: str) -> None:
    assert set(bad(await found(f"valkey://:hush@{nobody}"))) == {"Valkey"}
    said = str(await found(f"valkey://:hush@{nobody}"))
    assert nobody in said and "hush" not in said


async def test_a_database_that_is_not_there_is_the_finding(
    empty_valkey: str, nobody: str
) -> None:
    url = f"postgresql://u:hush@{nobody}/db"
    findings = bad(await found(empty_valkey, CFM_DATABASE_URL=url))
    assert set(findings) == {"CFM_DATABASE_URL"}
    assert "does not answer" in findings["CFM_DATABASE_URL"]
    assert "hush" not in str(findings)


async def test_what_a_cluster_lacks_is_said_with_what_to_do(
    kv: Valkey, empty_valkey: str, nobody: str
) -> None:
    members = Members(kv)
    await members.owner(Holder("1", "blue")).hold()
    await members.agree(agreed(Settings.load({"CFM_LOG_LENGTH": "5000"})), keep=True)
    assert bad(await found(empty_valkey)) == {
        "settings": "CFM_LOG_LENGTH: '10000' here, '5000' in the cluster",
        "nodes": "none: start one, `cfmessenger node`",
    }
    await members.say(Node("n1", "one", f"tcp://{nobody}"))
    findings = await found(empty_valkey, CFM_LOG_LENGTH="5000")
    assert bad(findings) == {
        "head": "none: start one, `cfmessenger head`",
        "node": f"tcp://{nobody} does not answer from here",
    }
    assert findings["cluster"].found == "of blue" and findings["between"]
    await members.head(Holder("1", "blue", nobody)).hold()
    assert (
        f"{nobody} is not reached from here: " in bad(await found(empty_valkey))["head"]
    )


async def test_a_node_of_another_release_is_named(
    kv: Valkey, empty_valkey: str, nobody: str
) -> None:
    members = Members(kv)
    await members.owner(Holder("1", "blue")).hold()
    for link, verdict, says in (
        (5, "note", "is of the release before, to which keys are sent: renew it"),
        (4, "bad", "speaks version 4 of the link, versions 5 to 6 are spoken here"),
        (8, "bad", "speaks version 8 of the link, versions 5 to 6 are spoken here"),
    ):
        await members.say(Node("n1", "one", link=link))
        findings = await module._examine(
            Settings.load({"CFM_VALKEY_URL": empty_valkey})
        )
        assert Finding(verdict, "node one", says) in findings


def test_what_travels_in_clear_text_is_named() -> None:
    def named(**env: str) -> set[str]:
        found = module._open(Settings.load(env))
        assert "hush" not in str(found)
        return {each.what for each in found if each.verdict == "note"}

    assert named() == {"between machines"}
    here = {"CFM_VALKEY_URL": "valkey://u:hush@127.0.0.1", "CFM_AI_MODEL": "m"}
    here["CFM_AI_BASE_URL"] = "http://127.0.0.1:11434/v1"
    assert named(**here) == {"between machines"}
    there = {
        "CFM_VALKEY_URL": "valkey://u:hush@v",
        "CFM_RAY_STORE_URL": "valkey://u:hush@v",
        "CFM_DATABASE_URL": "postgresql://u:hush@d/x",
        "CFM_AI_BASE_URL": "http://u:hush@ai/v1",
        "CFM_AI_MODEL": "m",
    }
    assert named(**there) == {"between machines", *there} - {"CFM_AI_MODEL"}
    closed = {
        "CFM_VALKEY_URL": "valkeys-sentinel://u:hush@v/s",
        "CFM_RAY_STORE_URL": "valkeys://u:hush@v",
        "CFM_DATABASE_URL": "postgresql://u:hush@d/x?sslmode=verify-full",
        "CFM_AI_BASE_URL": "https://u:hush@ai/v1",
        "CFM_AI_MODEL": "m",
    }
    assert named(**closed) == {"between machines"}


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")
def test_how_long_the_certificate_is_good_is_told(tmp_path: Path) -> None:
    ours = Authority(tmp_path)

    def told(days: int) -> Finding:
        files = ours.sign("machine", days=days)
        env = {"CFM_TLS_CA": str(files.ca), "CFM_TLS_CERT": str(files.cert)}
        (found,) = module._open(Settings.load(env | {"CFM_TLS_KEY": str(files.key)}))
        return found

    cert = tmp_path / "machine.pem"
    assert told(90) == Finding(
        "ok", "between machines", f"TLS; {cert} is good for 90 days"
    )
    assert told(5).verdict == "note"
    assert told(-1) == Finding("bad", "between machines", f"{cert} has ended: renew it")
    cert.write_text("nonsense")
    env = {"CFM_TLS_CA": str(ours.pem), "CFM_TLS_CERT": str(cert)}
    (found,) = module._open(Settings.load(env))
    assert found.verdict == "bad" and "\n" not in found.found


class Told:
    """A Valkey that says of itself what the test does."""

    def __init__(self, **said: str) -> None:
        self._said = {"role": "master", "aof_enabled": "1"} | said

    async def require_version(self) -> str:
        return "9.1"

    async def info(self, section: str) -> dict[str, str]:
        return self._said

    async def execute(self, commands: list[Any]) -> list[Any]:
        return [ReplyError("NOPERM")] * len(commands)

    def server_of(self, key: str) -> Any:
        return Server("valkey://h:1", 1.0)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ({"role": "slave"}, "is a replica: name its primary"),
        ({"aof_enabled": "0"}, "keeps nothing on disk: appendonly yes"),
        (
            {"maxmemory_policy": "allkeys-lru"},
            "may throw messages away (allkeys-lru): set maxmemory-policy noeviction",
        ),
        (
            {"maxmemory": "100", "used_memory": "80"},
            "80% of its memory is used: at 95% no message is taken",
        ),
        ({"maxmemory": "100", "used_memory": "79"}, None),
        ({"slave0": "ip=127.0.0.1,port=1,state=online,lag=0"}, None),
        (
            {"slave0": "ip=127.0.0.1,port=1,state=wait_bgsave,lag=0"},
            "is not in step with its primary",
        ),
    ],
)
async def test_a_valkey_that_may_lose_messages_is_bad(
    said: dict[str, str], advice: str | None
) -> None:
    told: Any = Told(**said)
    findings = await module._valkey(told, "valkey://h:1")
    worst = [each.found for each in findings if each.verdict == "bad"]
    assert worst == ([advice] if advice else [])


async def test_a_valkey_without_a_limit_is_noted() -> None:
    told: Any = Told()
    findings = await module._valkey(told, "valkey://h:1")
    assert any("no maxmemory" in f.found for f in findings if f.verdict == "note")
    told = Told(maxmemory="100")
    assert "no maxmemory" not in str(await module._valkey(told, "valkey://h:1"))


async def test_a_clock_that_is_off_is_bad() -> None:
    class Ahead:
        async def time(self, key: str) -> int:
            return int(2e13)

    ahead: Any = Ahead()
    (finding,) = await module._clock(ahead)
    assert finding.verdict == "bad"
    assert finding.found.endswith("ms from Valkey's: run an NTP client")
