"""The actor process over real links: who may speak, who is told, and how it ends."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import msgspec
import pytest

from actors import ownership
from actors import peer as peer_module
from actors.host import Host
from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from actors.pace import Pace
from cfmessenger.chat.effects import Attachment
from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link.greeting import NONCE_BYTES
from cfmessenger.link.namespace import Address
from cfmessenger.settings import Settings
from cfmessenger.storage import keys
from cfmessenger.storage.log import Fenced, ValkeyLog
from gateway.live.links import Links
from gateway.live.stub import Stub
from gateway.metrics import Traffic
from tests import patience
from tests.actors.caller import Caller
from tests.actors.scene import attachment, chat, frames, fresh_room, register, until
from tests.gateway.node import eventually
from tests.valkey_proxy import Proxy, proxied

Launch = Callable[..., Awaitable[Host]]

QUICK = Pace(tick_s=0.01)
"""A host that looks around more often than once in half a second."""


def settings(url: str, **more: object) -> HostSettings:
    base = HostSettings(url, 10_000, 3600.0, (0, 1), (0, 1), pace=QUICK)
    return msgspec.structs.replace(base, **more)


@pytest.fixture
async def launch(valkey_url: str, log: ValkeyLog) -> AsyncIterator[Launch]:
    hosts: list[Host] = []
    await register(log, "gA", "gB")

    async def launch(
        ended: Callable[[str], None] | None = None, **more: object
    ) -> Host:
        url = str(more.pop("url", valkey_url))
        host = Host(settings(url, **more), ended)
        hosts.append(host)
        await host.start()
        return host

    yield launch
    for host in hosts:
        await host.kill()


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_url, 10_000)
    yield log
    log.close()


# Who may speak.


async def test_a_gateway_that_proves_the_key_is_welcomed(launch: Launch) -> None:
    host = await launch()
    caller = await Caller.open(host.address("x"))
    assert caller.welcome is not None
    assert caller.welcome.version == host.address("x").version == link.VERSION
    await eventually(lambda: {e.gateway for e in host.links.peers} == {"gA"})
    caller.close()


async def test_a_gateway_of_the_release_before_is_welcomed_and_told_of_once(
    launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    host, name = await launch(), fresh_room()
    old = msgspec.structs.replace(host.address("x"), version=5)
    for gateway in ("gA", "gB"):
        caller = await Caller.open(old, gateway, speaks=5)
        assert caller.welcome == link.Welcome(5, os.getpid())
        caller.enter(name, f"{gateway}.1")
        await caller.visitor.until_covered()
        caller.close()
    assert caplog.text.count("gateways of the release before send their keys") == 1


async def test_every_host_has_a_key_of_its_own(launch: Launch) -> None:
    one, two = await launch(), await launch()
    assert one.links.key != two.links.key
    assert len(one.links.key) == 64
    caller = await Caller.open(one.address("x"), key=two.links.key)
    await caller.until_ended()
    assert caller.welcome is None
    assert caller.refused == "it does not know the key"


async def test_one_link_is_one_gateway_for_good(launch: Launch) -> None:
    host = await launch()
    caller = await Caller.open(host.address("x"))
    caller.say(link.Hello(5, host.links.key, "gB"))
    await caller.until_ended()
    assert not [each for each in host.links.peers if each.gateway == "gB"]


async def test_before_the_hello_little_is_read_in_however_small_pieces(
    launch: Launch,
) -> None:
    host = await launch()
    caller = await Caller.silent(host.address("x"))
    sent = 0
    async with patience.within(10.0):
        while not caller.ended.is_set():
            caller.say(link.Ping(sent))
            sent += 1
            while len(caller.pongs) < sent and not caller.ended.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    assert len(caller.pongs) * len(link.frame(link.Ping(0))) <= peer_module.MAX_HELLO


NONCE = b"n" * NONCE_BYTES


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (link.Hello(5, "wrong", "gA"), "it does not know the key"),
        (link.Hello(5, "", "gA"), "it does not know the key"),
        (link.Hello(5, "€", "gA"), "it does not know the key"),
        (link.Hello(5, "KEY", ""), "it has no name"),
        (link.Hello(link.VERSION, "KEY", "gA"), "it proves no key"),
        (link.Hello(link.VERSION, "KEY", "gA", 5, NONCE[1:]), "it proves no key"),
        (
            link.Hello(8, "", "gA", 7, NONCE),
            "it speaks versions 7 to 8 of the link, this end versions 5 to 6",
        ),
        (
            link.Hello(4, "KEY", "gA"),
            "it speaks version 4 of the link, this end versions 5 to 6",
        ),
        (link.Hello(2**40, "", "gA", 6, NONCE), "it speaks no versions"),
        (link.Hello(6, "", "gA", 7, NONCE), "it speaks no versions"),
        (link.Hello(0, "KEY", "gA"), "it speaks no versions"),
        (link.Proof(b""), "it owes no proof"),
        (link.Attach("room:x", 0, None, 0, 0, []), ""),
        (link.Inputs("room:x", []), ""),
    ],
)
async def test_whoever_is_not_greeted_is_told_why_and_not_listened_to(
    launch: Launch, hello: link.ToActor, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = await launch()
    if isinstance(hello, link.Hello) and hello.key == "KEY":
        hello = msgspec.structs.replace(hello, key=host.links.key)
    caller = await Caller.silent(host.address("x"))
    caller.say(hello, link.Attach("room:after", 0, None, 0, 0, []))
    await caller.until_ended()
    assert caller.refused == why
    assert [each for each in caller.last if not isinstance(each, link.Refused)] == []
    assert host.objects == {}
    await eventually(lambda: host.links.peers == set())
    said = [each for each in caplog.messages if "refused" in each]
    assert said == ([f"link of 127.0.0.1 is refused: {why}"] if why else [])
    assert host.links.key not in caplog.text


async def test_a_gateway_that_asks_and_proves_nothing_is_no_gateway(
    launch: Launch,
) -> None:
    host = await launch()
    caller = await Caller.silent(host.address("x"))
    caller.say(
        link.Hello(link.VERSION, "", "gA", 5, NONCE),
        link.Proof(b"\0" * 32),
        link.Attach("room:after", 0, None, 0, 0, []),
    )
    await caller.until_ended()
    assert caller.refused == "it does not know the key"
    assert host.objects == {}


async def test_silence_is_cut_off(launch: Launch) -> None:
    host = await launch(pace=Pace(hello_s=0.05))
    silent = await Caller.silent(host.address("x"))
    good = await Caller.open(host.address("x"), "gB")
    await silent.until_ended()
    assert not good.ended.is_set()
    good.close()


@pytest.mark.parametrize("greeted", [True, False])
@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (link.MAX_FRAME + 1).to_bytes(4, "big"),
        b"\0\0\0\2\xc1\xc1",
        b"\0\0\0\6\x94\x00\x01\xa1\xff\xc0",
        link.frame(link.Output("room:x", 1, 1, [])),
    ],
)
async def test_nonsense_ends_its_link_and_no_other(
    launch: Launch, nonsense: bytes, greeted: bool
) -> None:
    host, name = await launch(), fresh_room()
    good = await Caller.open(host.address("x"), "gB")
    good.enter(name, "gB.1")
    await good.visitor.until_covered()
    opening = Caller.open if greeted else Caller.silent
    bad = await opening(host.address("x"), "gA")
    bad.raw(nonsense)
    await bad.until_ended()
    good.chat(name, "gB.1", "still here")
    await good.visitor.until_covered()
    assert good.visitor.chats("gB.1") == [(1, "still here")]
    good.close()


async def test_before_its_hello_nobody_may_send_much(launch: Launch) -> None:
    host = await launch()
    caller = await Caller.silent(host.address("x"))
    # An announced large frame of which little has come yet.
    caller.raw(link.MAX_FRAME.to_bytes(4, "big") + b"x" * 8000)
    await caller.until_ended()
    assert caller.last == []


async def test_a_name_of_no_kind_ends_the_link(launch: Launch) -> None:
    host = await launch()
    caller = await Caller.open(host.address("x"))
    caller.say(caller.visitor.attach("kitchen:sink"))
    await caller.until_ended()
    assert host.objects == {}


async def test_inputs_for_an_object_that_is_not_here_come_back(launch: Launch) -> None:
    host, name = await launch(), fresh_room()
    caller = await Caller.open(host.address("x"))
    caller.say(link.Inputs(name, [link.Said(1, "gA.1", chat("hello"))]))
    goodbye = await caller.visitor.until_goodbye("shutting_down")
    assert (goodbye.object, goodbye.covered) == (name, 0)
    assert host.objects == {}
    caller.close()


async def test_pings_are_answered_while_valkey_is_silent(
    launch: Launch, valkey_url: str
) -> None:
    async with proxied(valkey_url) as proxy:
        host, name = await launch(url=proxy.url), fresh_room()
        caller = await Caller.open(host.address("x"))
        caller.enter(name, "gA.1")
        await caller.visitor.until_covered()
        proxy.stall()
        caller.chat(name, "gA.1", "waits")
        await proxy.until_kept()
        caller.say(link.Ping(7))
        await caller.visitor.until(lambda: bool(caller.pongs))
        assert caller.pongs == [7]
        assert caller.visitor.chats("gA.1") == []
        caller.close()


async def test_a_gateway_that_does_not_read_loses_its_link(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "HIGH_WATER", 2**18)
    host, name = await launch(), fresh_room()
    reading = await Caller.open(host.address("x"), "gB")
    reading.enter(name, "gB.1")
    stuck = await Caller.open(host.address("x"), "gA")
    stuck.enter(name, "gA.1")
    await stuck.visitor.until_covered()
    (peer,) = [each for each in host.links.peers if each.gateway == "gA"]
    stuck.transport.pause_reading()
    largest = 0
    for _ in range(400):
        for _ in range(20):
            said = reading.visitor.chat("gB.1", "x" * 2000)
            reading.say(link.Inputs(name, [said]))
        await reading.visitor.until_covered()
        assert peer._transport is not None
        largest = max(largest, peer._transport.get_write_buffer_size())
        if peer not in host.links.peers:
            break
    assert peer not in host.links.peers
    # At most one turn's frames over the mark.
    assert largest < 2 * 2**18
    chats = reading.visitor.chats("gB.1")
    assert [seq for seq, _ in chats] == list(range(1, len(chats) + 1))
    assert len(chats) == reading.visitor.n - 1
    for caller in (reading, stuck):
        caller.close()


async def test_a_frame_leaves_in_one_write_with_all_of_its_turn(launch: Launch) -> None:
    host = await launch()
    caller = await Caller.open(host.address("x"))
    chunks: list[bytes] = []
    (peer,) = host.links.peers
    assert peer._transport is not None

    class Spy:
        def __getattr__(self, name: str) -> object:
            return getattr(transport, name)

        def write(self, data: bytes) -> None:
            chunks.append(data)
            transport.write(data)

    transport = peer._transport
    peer._transport = Spy()
    caller.say(*(link.Ping(n) for n in range(50)))
    await caller.visitor.until(lambda: len(caller.pongs) == 50)
    assert caller.pongs == list(range(50))
    assert len(chunks) < 5
    peer._transport = transport
    caller.close()


# Objects in it.


async def test_many_objects_live_and_sleep_one_by_one(launch: Launch) -> None:
    host = await launch(hibernate_after=0.2)
    names = [fresh_room() for _ in range(30)]
    caller = await Caller.open(host.address("x"))
    v = caller.visitor
    covered: dict[str, int] = {}
    for number, name in enumerate(names):
        caller.enter(name, f"gA.{number}")
        covered[name] = v.n
    await v.until(lambda: len({o.object for o in v.outputs}) == 30)
    assert len(host.objects) == 30
    await v.until(lambda: len(v.goodbyes) == 30)
    assert {g.object: g.covered for g in v.goodbyes} == covered
    assert {g.reason for g in v.goodbyes} == {"idle"}
    assert host.objects == {}
    assert not caller.ended.is_set(), "a pooled process stays"
    caller.say(v.attach(names[3], "gA.3", seq=0, epoch=1, covered=v.n))
    caller.chat(names[3], "gA.3", "awake again")
    await v.until_covered()
    assert v.chats("gA.3") == [(1, "awake again")]
    assert list(host.objects) == [names[3]]
    caller.close()


async def test_an_object_with_events_does_not_sleep(launch: Launch) -> None:
    """However long the machine stalls in between: it sleeps so long after the last."""
    idle_s = 0.3
    host, name = await launch(hibernate_after=idle_s), fresh_room()
    caller, loop = await Caller.open(host.address("x")), host.loop
    caller.enter(name, "gA.1")
    v, begun, taken_at = caller.visitor, loop.time(), loop.time()
    while loop.time() - begun < 2 * idle_s and not v.goodbyes:
        said_at = loop.time()
        caller.chat(name, "gA.1", "on and on")
        await v.until(lambda: v.covered == v.n or bool(v.goodbyes))
        if v.covered == v.n:
            taken_at = said_at
        await asyncio.sleep(0.02)
    await v.until_goodbye("idle")
    assert loop.time() - taken_at >= idle_s
    caller.close()


async def test_a_superseded_object_finds_out_by_itself(
    launch: Launch, log: ValkeyLog
) -> None:
    host, name, other = await launch(), fresh_room(), fresh_room()
    caller = await Caller.open(host.address("x"))
    caller.enter(name, "gA.1")
    await caller.visitor.until_covered()
    caller.enter(other, "gA.2")
    await caller.visitor.until_covered()
    await log.activate(name)
    await caller.visitor.until_goodbye("duplicate_activation")
    assert list(host.objects) == [other]
    assert await log.mirror(name) is None
    caller.close()


async def test_a_tick_survives_a_valkey_that_is_away(
    launch: Launch, valkey_url: str, log: ValkeyLog
) -> None:
    async with proxied(valkey_url) as proxy:
        host, name = await launch(url=proxy.url), fresh_room()
        caller = await Caller.open(host.address("x"))
        caller.enter(name, "gA.1")
        await caller.visitor.until_covered()
        proxy.refusing = True
        proxy.cut()
        await asyncio.sleep(0.1)
        proxy.refusing = False
        await log.activate(name)
        await caller.visitor.until_goodbye("duplicate_activation")
        caller.close()


async def test_a_gateway_that_was_given_up_leaves(
    launch: Launch, log: ValkeyLog
) -> None:
    host, name = await launch(), fresh_room()
    caller, dead = (
        await Caller.open(host.address("x")),
        await Caller.open(host.address("x"), "gB"),
    )
    caller.enter(name, "gA.1")
    dead.enter(name, "gB.1")
    await dead.visitor.until_covered()
    dead.close()
    await log.execute([("ZREM", keys.GATEWAYS, "gB")])
    async with patience.within(5):
        while host.objects[name].sockets > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await caller.visitor.until(
        lambda: "USER_GB_1 left the room." in str(caller.visitor.seen("gA.1"))
    )
    caller.close()


async def test_a_host_that_cannot_look_shows_nothing_until_it_can(
    launch: Launch, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "TRUST_S", 0.1)
    async with proxied(valkey_url) as proxy:
        host, name = await launch(url=proxy.url), fresh_room()
        caller = await Caller.open(host.address("x"))
        caller.enter(name, "gA.1")
        await caller.visitor.until_covered()
        proxy.stall()
        async with patience.within(5):
            while host.trusted(host.objects[name]):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        caller.say(link.Inputs(name, [caller.visitor.said("gA.1", b"no json")]))
        caller.say(link.Ping(1))
        await caller.visitor.until(lambda: bool(caller.pongs))
        await asyncio.sleep(0.02)
        assert "error" not in caller.visitor.kinds("gA.1")
        proxy.flow()
        await caller.visitor.until_covered()
        assert "error" in caller.visitor.kinds("gA.1")
        caller.close()


async def test_a_broken_link_leaves_the_roster_as_it_is(launch: Launch) -> None:
    host, name = await launch(), fresh_room()
    caller = await Caller.open(host.address("x"))
    caller.enter(name, "gA.1")
    await caller.visitor.until_covered()
    caller.close()
    async with patience.within(5):
        while host.links.peers:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert host.objects[name].sockets == 1
    assert host.objects[name].seats == {}


# How it ends.


async def test_dedicated_it_ends_with_its_object_and_says_so_last(
    launch: Launch, log: ValkeyLog
) -> None:
    name, news = fresh_room(), asyncio.Event()
    reasons: list[str] = []

    def ended(reason: str) -> None:
        reasons.append(reason)
        news.set()

    host = await launch(ended, actor=name, hibernate_after=0.1)
    caller = await Caller.open(host.address("x"))
    caller.enter(name, "gA.1")
    await caller.until_ended()
    await until(lambda: bool(reasons), news)
    assert reasons == ["idle"]
    assert caller.last[-1] == link.Goodbye(name, 1, caller.visitor.n, "idle")
    assert await log.mirror(name) is not None


async def test_dedicated_it_is_only_for_its_object(launch: Launch) -> None:
    host, name = await launch(actor=fresh_room()), fresh_room()
    caller = await Caller.open(host.address("x"))
    caller.say(caller.visitor.attach(name))
    await caller.visitor.until_goodbye("moved")
    assert host.objects == {}
    caller.close()


async def test_dedicated_and_never_asked_it_ends(launch: Launch) -> None:
    over = asyncio.get_running_loop().create_future()
    pace = Pace(tick_s=0.01, hello_s=0.05)
    await launch(over.set_result, actor=fresh_room(), hibernate_after=0.05, pace=pace)
    async with patience.within(5):
        assert await over == "idle"


async def test_dedicated_a_start_that_fails_leaves_it_for_the_next_try(
    launch: Launch, valkey_url: str
) -> None:
    async with proxied(valkey_url) as proxy:
        name = fresh_room()
        host = await launch(actor=name, url=proxy.url)
        proxy.refusing = True
        proxy.cut()
        caller = await Caller.open(host.address("x"))
        caller.enter(name, "gA.1")
        await caller.visitor.until_goodbye("storage_failed")
        proxy.refusing = False
        caller.enter(name, "gA.2")
        await caller.visitor.until_covered()
        assert not host.leaving
        caller.close()


async def test_what_comes_while_it_leaves_is_not_taken(
    launch: Launch, log: ValkeyLog
) -> None:
    name = fresh_room()
    host = await launch(actor=name)
    address = host.address("x")
    caller, other = await Caller.open(address), await Caller.open(address, "gB")
    caller.enter(name, "gA.1")
    await caller.visitor.until_covered()
    # As a gateway does that had something on its way when the goodbye was said.
    ending = asyncio.create_task(host.drain())
    await caller.visitor.until_goodbye("shutting_down")
    caller.chat(name, "gA.1", "too late")
    caller.say(link.Ping(1))
    other.enter(name, "gB.1")
    await asyncio.gather(caller.until_ended(), other.until_ended())
    assert await ending == 1
    assert await log.newest(name, 1, None) == []
    assert caller.visitor.chats("gA.1") == []


async def test_who_has_not_read_the_end_may_still_speak(launch: Launch) -> None:
    """A half-closed link: the gateway goes on talking until it has read the goodbye."""
    name = fresh_room()
    host = await launch(actor=name)
    caller = await Caller.open(host.address("x"))
    caller.enter(name, "gA.1")
    await caller.visitor.until_covered()
    caller.transport.pause_reading()
    await host.drain()
    await asyncio.sleep(0)  # the host has written its end
    caller.chat(name, "gA.1", "too late")
    caller.say(link.Ping(1))
    await asyncio.sleep(0.05)
    caller.transport.resume_reading()
    await caller.until_ended()
    assert caller.visitor.goodbyes[-1].reason == "shutting_down"
    assert caller.visitor.covered == 1


async def test_a_drain_puts_everything_to_sleep(launch: Launch, log: ValkeyLog) -> None:
    host = await launch()
    names = [fresh_room() for _ in range(20)]
    caller = await Caller.open(host.address("x"))
    for number, name in enumerate(names):
        caller.enter(name, f"gA.{number}")
        caller.chat(name, f"gA.{number}", "hello")
    assert caller.visitor.n == 40
    await caller.visitor.until(
        lambda: all(caller.visitor.chats(f"gA.{n}") for n in range(20))
    )
    assert await host.drain() == 20
    assert host.objects == {}
    for name in names:
        found = await log.activate(name)
        assert found.mirror is not None
        assert (found.mirror.epoch, found.mirror.final, found.seq) == (1, True, 1)
    await caller.visitor.until(lambda: len(caller.visitor.goodbyes) == 20)
    caller.close()


async def test_a_kill_is_as_if_it_had_died(launch: Launch, log: ValkeyLog) -> None:
    host, name = await launch(), fresh_room()
    caller = await Caller.open(host.address("x"))
    caller.enter(name, "gA.1")
    caller.chat(name, "gA.1", "confirmed")
    await caller.visitor.until_covered()
    await host.kill()
    await caller.until_ended()
    assert caller.visitor.goodbyes == []
    assert await log.mirror(name) is None
    assert [e.seq for e in await log.newest(name, 9, None)] == [1]


async def test_settings_of_the_node_become_those_of_its_actors() -> None:
    node = Settings.load(
        {
            "CFM_VALKEY_URL": "unix:///v",
            "CFM_CHAT_RATE": "7/9",
            "CFM_NUDGE_RATE": "0",
            "CFM_HIBERNATE_AFTER": "3",
            "CFM_LOG_LENGTH": "2000",
        }
    )
    found = HostSettings.of(node)
    assert (found.valkey_url, found.log_length) == ("unix:///v", 2000)
    assert found.hibernate_after == 3.0
    assert found.rules.chat_rate == (7, 9)
    assert found.rules.nudge_rate[0] == 0
    raw = msgspec.msgpack.encode(found)
    assert msgspec.msgpack.decode(raw, type=HostSettings) == found


# All of it together, with the gateway's real end.


class Socket:
    """A client's socket at a gateway (`gateway.live.outlet.Outlet`): sees, in order."""

    full = False
    uncovered = 0

    def __init__(self, conn: str) -> None:
        self.conn = conn
        self.user_id = attachment(conn).user_id
        self.seen: list[tuple[int, str]] = []
        self.refusals: list[bytes] = []
        self.news = asyncio.Event()

    def write(self, blob: bytes) -> None:
        for frame in frames(blob):
            if frame["type"] == "chat":
                self.seen.append((frame["seq"], frame["content"]))
            elif frame["type"] == "history":
                self.seen += [(m["seq"], m["content"]) for m in frame["messages"]]
        self.news.set()

    def told(self, blob: bytes, fault: bool) -> None:
        self.write(blob)

    def refused(self, data: bytes) -> None:
        self.refusals.append(data)

    def go_on(self) -> None:
        raise AssertionError("so little is never too much")

    def failed(self) -> None:
        raise

    def end(self, code: int, reason: str) -> None:
        raise AssertionError(f"closed {code} {reason}")

    def catch_up(self, stub: Stub, since: int, seq: int) -> None:
        raise AssertionError("within the buffer there is nothing to page")

    def attached(self, stub: Stub, attachment: Attachment) -> None:
        pass

    def recall(self, stub: Stub, seq: int) -> None:
        raise AssertionError("within the buffer there is nothing to recall")


class Edge:
    """A gateway with one room and these sockets in it."""

    def __init__(self, gateway: str, namespace: LocalNamespace, name: str) -> None:
        self.links = Links(gateway, namespace)
        self.name = name
        self.stub = Stub(
            name,
            self.links,
            forward=lambda target, payload: None,
            page=self._page,
            look=lambda overdue, late: None,
            covered=lambda seconds: None,
            traffic=Traffic(),
        )
        self.sockets = [Socket(f"{gateway}.{n}") for n in range(2)]
        for socket in self.sockets:
            self.stub.open(socket, attachment(socket.conn), None, False)

    @staticmethod
    def _page(stub: Stub) -> None:
        raise AssertionError("behind")


async def _trouble(
    proxy: Proxy, namespace: LocalNamespace, name: str, chance: random.Random
) -> None:
    """One thing that goes wrong: the network to Valkey, the process, or a rival."""
    kind = chance.choice(["cut", "late", "stall", "kill", "rival", "sleep"])
    if kind == "cut":
        proxy.cut()
    elif kind == "late":
        proxy.hold_requests()
        await asyncio.sleep(0.01)
        proxy.cut()
        await asyncio.sleep(0.01)
        proxy.flow()
    elif kind == "stall":
        proxy.stall()
        await asyncio.sleep(0.01)
        if chance.random() < 0.5:
            proxy.cut()
        proxy.flow()
    elif kind == "kill":
        address = await namespace.resolve(name)
        await namespace.kill(address.actor, address.actor_id)
    elif kind == "rival":
        rival = ValkeyLog(proxy.url, 10_000)
        with suppress(Fenced, Unavailable):
            await rival.activate(name)
        rival.close()
    else:
        for host in namespace.hosts:
            await host.drain()


SAID = 96
"""No more than the buffer: a socket that enters late is shown the latest 100."""


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_happens_every_message_appears_once_and_in_order(
    valkey_url: str, log: ValkeyLog, seed: int
) -> None:
    chance, name = random.Random(seed), fresh_room()
    await register(log, "gA", "gB")
    async with proxied(valkey_url) as proxy:
        namespace = LocalNamespace(settings(proxy.url))
        edges = [Edge(gateway, namespace, name) for gateway in ("gA", "gB")]
        try:
            await _talk(edges, proxy, namespace, name, chance)
            await _until_all_have_seen(edges)
        finally:
            for edge in edges:
                await edge.links.close()
            await namespace.close()
    stored = await log.after(name, 0, 1000)
    texts = [msgspec.json.decode(entry.event)["content"] for entry in stored]
    assert [entry.seq for entry in stored] == list(range(1, SAID + 1))
    assert sorted(texts, key=int) == [str(n) for n in range(SAID)], "each once"
    assert [e.epoch for e in stored] == sorted(e.epoch for e in stored)
    for socket in (socket for edge in edges for socket in edge.sockets):
        assert socket.seen == list(enumerate(texts, 1)), "each once, and in order"
        assert socket.refusals == []


async def _talk(
    edges: list[Edge],
    proxy: Proxy,
    namespace: LocalNamespace,
    name: str,
    chance: random.Random,
) -> None:
    for n in range(SAID):
        edge = chance.choice(edges)
        own_id = f"id-{n}" if chance.random() < 0.5 else None
        now = asyncio.get_running_loop().time()
        socket = chance.choice(edge.sockets)
        edge.stub.say(socket, chat(str(n), own_id), now)
        assert not socket.full
        if n % 12 == 11:
            await _trouble(proxy, namespace, name, chance)
        elif chance.random() < 0.4:
            await asyncio.sleep(0.001)


async def _until_all_have_seen(edges: list[Edge]) -> None:
    async with patience.within(20):
        while any(len(s.seen) < SAID for edge in edges for s in edge.sockets):
            # What a gateway is told on its channel, by whoever woke it.
            for edge in edges:
                edge.stub.life.wake()
            await asyncio.sleep(0.01)


async def test_a_name_leads_to_the_address_of_its_host(launch: Launch) -> None:
    host = await launch()
    address = host.address("me")
    assert isinstance(address, Address)
    assert (address.host, address.actor_id) == ("127.0.0.1", "me")
    assert address.key == host.links.key
