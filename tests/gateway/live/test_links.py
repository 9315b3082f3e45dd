"""Links: one for each actor process, and how a gateway finds out that it is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from actors.host import Host
from actors.host_settings import HostSettings
from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link.namespace import Address
from cfmessenger.placement import Own, Placement
from cfmessenger.tls import Files, Trust
from gateway import metrics
from gateway.live import link as link_module
from gateway.live import links
from gateway.live.link import REFUSED_FOR_S, Link
from gateway.live.links import Links
from tests import patience
from tests.authority import MISSING, Authority
from tests.gateway.edge import settings_for
from tests.gateway.node import eventually
from tests.gateway.scripted_actor import Names, actor


class Rider:
    def __init__(self, name: str = "room:x", *inputs: link.Inputs | Exception) -> None:
        self.name = name
        self.inputs = list(inputs)
        self.outputs: list[link.Output] = []
        self.goodbyes: list[link.Goodbye] = []
        self.lost = asyncio.Event()

    def leaving(self) -> link.Inputs | None:
        inputs = self.inputs.pop() if self.inputs else None
        if isinstance(inputs, Exception):
            raise inputs
        return inputs

    def on_output(self, output: link.Output) -> None:
        self.outputs.append(output)

    def on_goodbye(self, goodbye: link.Goodbye) -> None:
        self.goodbyes.append(goodbye)

    def on_lost(self, lost: Link) -> None:
        self.lost.set()


@asynccontextmanager
async def gateway(names: Names) -> AsyncIterator[Links]:
    ends = Links("g1", names)
    ends.start()
    try:
        yield ends
    finally:
        await ends.close()


def live(ends: Links) -> int:
    """How many links it holds that are not lost."""
    return sum(not each.lost for each in ends._links.values())


async def test_one_link_for_all_objects_of_a_process() -> None:
    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = process.address
        several = await asyncio.gather(*(ends.to(f"room:{n}", None) for n in range(9)))
        assert len(set(map(id, several))) == 1
        assert await ends.to("room:later", None) is several[0]
        assert (process.links, live(ends), names.resolved) == (1, 1, 10)


async def test_messages_find_their_object_and_strangers_are_ignored() -> None:
    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = process.address
        one = await ends.to("room:x", None)
        rider = one.riders["room:x"] = Rider()
        process.says(
            link.Output("room:unknown", 1, 0, []),
            link.Output("room:x", 1, 3, []),
            link.Goodbye("room:unknown", 1, 0, "idle"),
            link.Goodbye("room:x", 1, 3, "idle"),
        )
        await eventually(lambda: rider.goodbyes)
        assert rider.outputs == [link.Output("room:x", 1, 3, [])]
        assert rider.goodbyes == [link.Goodbye("room:x", 1, 3, "idle")]


@pytest.mark.parametrize("verb", ["on_output", "on_goodbye"])
async def test_a_bug_with_one_object_costs_the_others_no_link(verb: str) -> None:
    class Broken(Rider):
        def on_output(self, output: link.Output) -> None:
            raise ZeroDivisionError

        def on_goodbye(self, goodbye: link.Goodbye) -> None:
            raise ZeroDivisionError

    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = process.address
        end = await ends.to("room:x", None)
        broken = end.riders["room:x"] = Broken()
        other = end.riders["room:y"] = Rider("room:y")
        if verb == "on_output":
            process.says(link.Output("room:x", 1, 3, []))
        else:
            process.says(link.Goodbye("room:x", 1, 3, "idle"))
        process.says(link.Output("room:y", 1, 1, []))
        await eventually(lambda: other.outputs)
        assert broken.lost.is_set(), "it attaches anew"
        assert not end.lost and not other.lost.is_set()
        assert list(end.riders) == ["room:y"]


async def test_all_of_one_turn_leaves_in_one_write() -> None:
    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = process.address
        one = await ends.to("room:x", None)
        for n in range(3):
            one.send(link.Inputs("room:x", [link.Closed(n, "g1.1")]))
        for n in range(3):
            got = await process.hears(link.Inputs)
            assert got.inputs == [link.Closed(n, "g1.1")]


async def test_what_objects_have_is_taken_at_the_end_of_a_turn() -> None:
    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = process.address
        one = await ends.to("room:x", None)
        riders = [
            Rider(name, link.Inputs(name, [link.Closed(n, "g1.1")]))
            for n, name in enumerate(("room:x", "room:y", "room:gone", "room:z"))
        ]
        one.riders |= {r.name: r for r in riders if r.name != "room:gone"}
        for rider in (*riders, riders[0]):
            one.take_from(rider)
        one.send(link.Attach("room:v", 0, None, 0, 0, []))
        await process.hears(link.Attach)  # what was sent comes first
        for rider in (riders[0], riders[1], riders[3]):
            got = await process.hears(link.Inputs)
            assert got.object == rider.name
        assert riders[2].inputs, "its next attach brings them"


async def test_a_bug_with_what_one_object_has_is_no_others() -> None:
    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = process.address
        one = await ends.to("room:x", None)
        broken = one.riders["room:x"] = Rider("room:x", ZeroDivisionError())
        inputs = link.Inputs("room:y", [link.Closed(1, "g1.1")])
        other = one.riders["room:y"] = Rider("room:y", inputs)
        one.take_from(broken)
        one.take_from(other)
        assert (await process.hears(link.Inputs)).object == "room:y"
        assert broken.lost.is_set() and not one.lost and list(one.riders) == ["room:y"]


async def test_a_broken_link_tells_its_riders_and_is_replaced() -> None:
    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = process.address
        one = await ends.to("room:x", None)
        riders = [Rider("room:x"), Rider("room:y")]
        one.riders |= {rider.name: rider for rider in riders}
        process.drop()
        for rider in riders:
            await patience.wait_for(rider.lost.wait(), 2)
        assert one.lost and not one.riders and live(ends) == 0
        again = await ends.to("room:x", None)
        assert again is not one and not again.lost


@pytest.mark.parametrize(
    "garbage", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x01\x90"]
)
async def test_garbage_ends_the_link(garbage: bytes) -> None:
    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = process.address
        one = await ends.to("room:x", None)
        rider = one.riders["room:x"] = Rider()
        process.says_bytes(garbage)
        await patience.wait_for(rider.lost.wait(), 2)


async def test_an_address_where_nobody_listens() -> None:
    names = Names()
    async with actor() as process:
        names.where = process.address
    async with gateway(names) as ends:
        with pytest.raises(Unavailable):
            await ends.to("room:x", None)
        assert live(ends) == 0


async def test_who_cannot_be_linked_to_is_resolved_again_at_once_as_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that is gone costs one dial: the namespace is told, and looks no longer
    for what it knows to be elsewhere."""
    monkeypatch.setattr(links, "FIRST_PAUSE_S", 3600.0)

    class Told(Names):
        async def resolve(
            self,
            name: str,
            hint: str | None = None,
            moved: bool = False,
            lost: str = "",
        ) -> Address:
            found = await super().resolve(name, hint, moved, lost)
            return new if lost == found.actor_id else found

    names = Told()
    async with actor("dead") as dead, actor("new") as living, gateway(names) as ends:
        names.where, new = dead.address, living.address
        await dead.stop()
        found = await patience.wait_for(ends.to("room:x", None), 5)
        assert found.address.actor_id == "new"
        assert names.lost == ["", "dead"]


async def test_who_hangs_up_is_there_and_not_lost() -> None:
    """As a host of another version does, or one that goes to sleep."""
    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = msgspec.structs.replace(process.address, key="of another")
        with pytest.raises(Unavailable):
            await ends.to("room:x", None)
        assert set(names.lost) == {""}


async def test_a_process_that_does_not_say_welcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "CONNECT_TIMEOUT_S", 0.1)
    names = Names()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with actor() as process, gateway(names) as ends, server:
        port = server.sockets[0].getsockname()[1]
        names.where = msgspec.structs.replace(process.address, port=port)
        with pytest.raises(Unavailable):
            await ends.to("room:x", None)


async def test_closing_ends_what_is_being_opened_and_opens_nothing_more() -> None:
    names, came, left = Names(), asyncio.Event(), asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        with suppress(ConnectionResetError):
            while await reader.read(1000):
                pass
        left.set()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with actor() as process, gateway(names) as ends, server:
        port = server.sockets[0].getsockname()[1]
        names.where = msgspec.structs.replace(process.address, port=port)
        waiting = asyncio.create_task(ends.to("room:x", None))
        await came.wait()
        await ends.close()
        with pytest.raises(Unavailable):
            await waiting
        await patience.wait_for(left.wait(), 2)
        with pytest.raises(Unavailable):
            await ends.to("room:x", None)


async def test_a_real_host_refuses_a_wrong_key(valkey_url: str) -> None:
    host = Host(HostSettings.of(settings_for(valkey_url)))
    await host.start()
    names = Names()
    async with gateway(names) as ends:
        names.where = msgspec.structs.replace(host.address("1"), key="guessed")
        with pytest.raises(Unavailable):
            await ends.to("room:x", None)
        names.where = host.address("1")
        assert not (await ends.to("room:x", None)).lost
    await host.close()


async def test_a_silent_process_is_killed_by_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "PING_EVERY_S", 0.02)
    names = Names()
    async with actor("77") as process, gateway(names) as ends:
        names.where = process.address
        process.answers_pings = False
        one = await ends.to("room:x", None)
        riders = [Rider("room:x"), Rider("room:y")]
        one.riders |= {rider.name: rider for rider in riders}
        for rider in riders:
            await patience.wait_for(rider.lost.wait(), 2)
        assert names.killed == [("room:x", "77")], "whatever else it hosts"
        process.answers_pings = True
        for _ in range(2):
            again = await ends.to("room:x", None)
            again.abort()
            await eventually(lambda again=again: again.lost)
        assert names.lost == ["", "77", ""], "until it is linked again"


async def test_whoever_answers_or_talks_is_not_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "PING_EVERY_S", 0.05)
    names = Names()
    async with actor() as process, gateway(names) as ends:
        names.where = process.address
        one = await ends.to("room:x", None)
        rider = one.riders["room:x"] = Rider()
        process.answers_pings = False
        for n in range(20):
            process.says(link.Output("room:x", 1, n, []))
            await eventually(lambda n=n: len(rider.outputs) > n)
            await asyncio.sleep(0.01)
        process.answers_pings = True
        await eventually(lambda: one.unanswered == 0)
        assert not names.killed and not one.lost


async def test_an_unknown_name_is_unavailable() -> None:
    async with gateway(Names()) as ends:
        with pytest.raises(Unavailable):
            await ends.to("room:x", None)


# Placement.


def moves() -> dict[str, float]:
    """So far, by reason."""
    (family,) = metrics.PLACEMENT_MOVES.collect()
    return {
        sample.labels["reason"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


async def test_moves_are_counted_by_reason_where_a_newer_placement_is_learned() -> None:
    names = Names()
    known = {"room:hot": Own("hot", 0, 1), "room:gone": Own("lived", 0, 1)}
    now_own = {
        "room:hot": known["room:hot"],
        "room:warm": Own("hot", 0, 8),
        "room:dear": Own("pinned", 0, 9),
    }
    async with actor() as process, gateway(names) as ends:

        async def learn(placement: Placement) -> dict[str, float]:
            before = moves()
            names.known = placement
            number = placement.number
            names.where = msgspec.structs.replace(process.address, generation=number)
            await ends.to("room:x", None)
            now = moves()
            changed = {why for why in now if now[why] != before.get(why, 0.0)}
            return {why: now[why] - before.get(why, 0.0) for why in changed}

        # Who begins has seen nothing move.
        assert await learn(Placement("auto", 2, 7, own=known)) == {}
        ended = {"room:gone": (0, 8), "room:brief": (0, 9)}
        after = Placement("auto", 2, 9, own=now_own, ended=ended)
        assert await learn(after) == {"hot": 1, "pinned": 1, "ended": 1}
        assert await learn(after) == {}, "known already"


async def test_pools_are_linked_before_anybody_asks_and_again_when_one_has_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "PING_EVERY_S", 0.02)
    names = Names()
    names.known = Placement("pooled", 1, 1)
    async with actor() as process, actor("2") as successor:
        pool = msgspec.structs.replace(process.address, actor="rooms:0", generation=1)
        names.where = pool
        async with gateway(names) as ends:
            async with patience.within(5.0):
                await ends.ahead.wait()
            assert (process.links, live(ends)) == (1, 1)
            asked = names.resolved
            one = await ends.to("room:x", None)
            assert names.resolved == asked, "nobody had to be asked"
            names.where = msgspec.structs.replace(
                successor.address, actor="rooms:0", generation=1
            )
            one.abort()
            await eventually(lambda: successor.links == 1)
            await eventually(lambda: ends._linked("rooms:0") and live(ends) == 1)
            asked = names.resolved
            assert await ends.to("room:x", None) is not one
            assert names.resolved == asked


async def test_where_the_pools_do_not_start_it_goes_on_trying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "PING_EVERY_S", 0.02)
    names = Names()  # where nothing is found
    names.known = Placement("pooled", 1, 1)
    async with actor() as process, gateway(names) as ends:
        await eventually(lambda: names.resolved >= 1)
        assert not ends.ahead.is_set()
        names.where = msgspec.structs.replace(
            process.address, actor="rooms:0", generation=1
        )
        async with patience.within(5.0):
            await ends.ahead.wait()


async def test_a_pool_that_has_no_part_any_more_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "PING_EVERY_S", 0.02)
    names = Names()
    names.known = Placement("pooled", 1, 1)
    async with actor() as process, gateway(names) as ends:
        names.where = msgspec.structs.replace(
            process.address, actor="rooms:0", generation=1
        )
        async with patience.within(5.0):
            await ends.ahead.wait()
        one, asked = await ends.to("room:x", None), names.resolved
        names.known = Placement("dedicated", 1, 2)
        one.abort()
        await eventually(lambda: live(ends) == 0)
        await eventually(lambda: ends._placement.number == 2)
        assert names.resolved == asked, "or its process would be made once more"


# Who is not greeted.


@asynccontextmanager
async def stranger(*says: link.ToGateway) -> AsyncIterator[Address]:
    """A process that answers a hello with this, and waits for what comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"".join(map(link.frame, says)))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Address("127.0.0.1", port, "hush", "a1", 1, "room:x", version=6)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (
            link.Refused(7, 8, "it speaks version 6 of the link, this end 7 to 8"),
            "it speaks versions 7 to 8 of the link, this end versions 5 to 6",
        ),
        (
            link.Refused(5, 6, "it does not know the key"),
            "it refuses us: it does not know the key",
        ),
        (link.Welcome(6, 1, b"n" * 32, b"guessed"), "it does not know the key"),
        (link.Welcome(5, 1), "it proves no key"),
    ],
)
async def test_who_refuses_us_or_whom_we_refuse_is_one_line_and_told_of_for_a_while(
    says: link.ToGateway, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names()
    async with stranger(says) as names.where, gateway(names) as ends:
        for _ in range(2):
            with pytest.raises(Unavailable, match="No link to the actor"):
                await ends.to("room:x", None)
        assert ends.refused == told
        at = f"127.0.0.1:{names.where.port}"
        assert caplog.messages == [f"no link to {at}: {told}"]
        assert names.killed == [] and set(names.lost) == {""}, "it is there"
        patience.skip(REFUSED_FOR_S)
        assert ends.refused == ""


async def test_an_actor_of_the_release_before_is_linked_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = Names()
    async with actor() as one, actor("2") as two, gateway(names) as ends:
        for process in (one, two):
            names.where = msgspec.structs.replace(process.address, version=5)
            found = await ends.to("room:x", None)
            assert not found.proved
            found.send(link.Attach("room:x", 0, None, 0, 0, []))
            await process.hears(link.Attach)
    assert caplog.messages == [
        "actors of the release before are sent their keys in clear"
    ]


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")
async def test_with_tls_links_are_of_one_authority_and_outlive_its_certificates(
    tmp_path: Path, valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "theirs").mkdir()
    ours, theirs = Authority(tmp_path), Authority(tmp_path / "theirs")
    files, names = ours.sign("machine"), Names()
    foreign = theirs.sign("machine")
    settings = HostSettings(valkey_url, 10_000, 3600.0, (0, 1), (0, 1), tls=files)
    host = Host(settings)
    await host.start()
    names.where = host.address("a1")
    ends = Links("g1", names, Trust(files))
    try:
        first = await ends.to("room:x", None)
        assert first.proved
        # A certificate of another authority, and no TLS at all: there is a host, so it
        # is not evidence that it was lost.
        for trust in (Trust(Files(files.ca, foreign.cert, foreign.key)), None):
            other = Links("g2", names, trust)
            with pytest.raises(Unavailable):
                await other.to("room:x", None)
            await other.close()
        await eventually(lambda: "links: 127.0.0.1 is refused" in caplog.text)
        assert [each.gateway for each in host.links.peers] == ["g1"]
        # The actor of the release before has no TLS.
        old = msgspec.structs.replace(names.where, version=5, key="old")
        names.where, known = old, names.where
        with pytest.raises(Unavailable, match="proves no key"):
            await ends.to("room:x", None)
        names.where = known
        # All is signed anew, by another authority: who is linked stays so.
        Authority(tmp_path).sign("machine")
        third = Links("g3", names, Trust(files))
        assert not (await third.to("room:x", None)).lost
        assert await ends.to("room:x", None) is first and not first.lost
        rider = first.riders["room:x"] = Rider()
        first.send(link.Attach("room:x", 0, None, 0, 0, []))
        await eventually(lambda: host.objects)
        await host.drain()
        await eventually(lambda: rider.goodbyes)
        await third.close()
    finally:
        await ends.close()
        await host.close()
