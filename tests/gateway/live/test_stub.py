"""A stub over a real link to a scripted actor: what it sends, keeps, shows, drops."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

import msgspec
import pytest
from msgspec.structs import replace

from cfmessenger.chat.effects import Attachment
from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link import uncovered
from cfmessenger.load.actor_room import payloads
from gateway.live import overdue
from gateway.live.late import Found, Late
from gateway.live.links import Links
from gateway.live.stub import Stub
from gateway.metrics import Traffic
from tests import patience
from tests.gateway.node import eventually
from tests.gateway.scripted_actor import Names, ScriptedActor, actor

NAME = "room:x"


class Outlet:
    """A socket that notes what it is told."""

    def __init__(self, conn: str, user_id: str = "user_1") -> None:
        self.conn, self.user_id = conn, user_id
        self.full = False
        self.uncovered = 0
        self.attachment = Attachment(conn, user_id, user_id, "online")
        self.attachments: list[Attachment] = []
        self.got: list[object] = []
        self.write = self._write

    def _write(self, blob: bytes) -> None:
        self.got.append(blob)

    def write_all(self, pieces: Sequence[bytes]) -> None:
        self.got.append(tuple(pieces))

    def told(self, blob: bytes, fault: bool) -> None:
        self.got.append((blob, fault))

    def end(self, code: int, reason: str) -> None:
        self.got.append(code)

    def catch_up(self, stub: Stub, since: int, seq: int) -> None:
        self.got.append(("catch up", since, seq))

    def attached(self, stub: Stub, attachment: Attachment) -> None:
        self.attachments.append(attachment)

    def recall(self, stub: Stub, seq: int) -> None:
        self.got.append(("recall", seq))

    def refused(self, data: bytes) -> None:
        self.got.append(("refused", data))

    def go_on(self) -> None:
        self.got.append("go on")

    def failed(self) -> None:
        self.got.append("failed")


class Desk:
    """A stub and everything around it."""

    def __init__(self, process: ScriptedActor, names: Names, links: Links) -> None:
        self.process, self.names = process, names
        self.forwarded: list[tuple[str, bytes]] = []
        self.paged: list[Stub] = []
        self.late: list[Late] = []
        self.waits: list[float] = []
        self.traffic = Traffic()
        self.stub = Stub(
            NAME,
            links,
            forward=lambda target, payload: self.forwarded.append((target, payload)),
            page=self.paged.append,
            look=lambda overdue, late: self.late.extend(late),
            covered=self.waits.append,
            traffic=self.traffic,
        )

    async def enter(self, *outlets: Outlet) -> Self:
        """These sockets open, the actor covers and subscribes them."""
        for outlet in outlets:
            self.stub.open(outlet, outlet.attachment, None, False)
        await eventually(lambda: len(self._opened()) >= len(outlets))
        self.output([link.Subscribed(tuple(o.conn for o in outlets), 0)])
        await eventually(lambda: len(self.stub._audience.members) >= len(outlets))
        return self

    def say(self, outlet: Outlet, data: bytes) -> bool:
        """A frame that has just come; whether its socket may still be read."""
        self.stub.say(outlet, data, asyncio.get_running_loop().time())
        return not outlet.full

    def expire(self, **found: int) -> None:
        """All is late now, and the log has these of the frames, as these events."""
        loop = asyncio.get_running_loop()
        self.stub.overdue.expire(loop.time() + overdue.EXPIRE_AFTER_S + 0.1)
        late, self.late = self.late, []
        events = {
            each.said.n: Found(found[text], b"echo")
            for each in late
            if (text := each.said.data.decode()) in found
        }
        self.stub.overdue.settle({each.said.n for each in late}, events)

    def _opened(self) -> list[link.Opened]:
        heard = [m for m in self.process.heard if isinstance(m, link.Inputs)]
        return [e for m in heard for e in m.inputs if isinstance(e, link.Opened)]

    @property
    def newest(self) -> int:
        """The number of the last input that the actor has heard."""
        heard = [m for m in self.process.heard if isinstance(m, link.Inputs)]
        return max((e.n for m in heard for e in m.inputs), default=0)

    def output(
        self, items: list[link.Item], epoch: int = 1, covered: int | None = None
    ) -> None:
        n = self.newest if covered is None else covered
        self.process.says(link.Output(NAME, epoch, n, items))

    async def said(self) -> list[bytes]:
        """The frames in the next message with inputs."""
        inputs = await self.process.hears(link.Inputs)
        return [e.data for e in inputs.inputs if isinstance(e, link.Said)]


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    names = Names()
    async with actor() as process:
        names.where = process.address
        links = Links("g1", names)
        here = Desk(process, names, links)
        try:
            yield here
        finally:
            here.stub.life.end()
            await links.close()


async def test_a_socket_attaches_then_opens_and_gets_what_is_for_it() -> None:
    async with desk() as at:
        one, two = Outlet("g1.1"), Outlet("g1.2", "user_2")
        at.stub.open(one, one.attachment, 7, False)
        at.stub.open(two, two.attachment, None, True)
        attach = await at.process.hears(link.Attach)
        assert replace(attach, turn=0) == link.Attach(NAME, 0, None, 0, 0, [])
        inputs = await at.process.hears(link.Inputs)
        assert inputs.inputs == [
            link.Opened(1, one.attachment, 7, False),
            link.Opened(2, two.attachment, None, True),
        ]
        at.output(
            [
                link.ToSockets(("g1.1",), b"hello", False),
                link.Fanout(b"to nobody", 0, None),
                link.Subscribed(("g1.1",), 3),
                link.Fanout(b"4", 4, None),
                link.Subscribed(("g1.2",), 4),
                link.Fanout(b"5", 5, None),
                link.Fanout(b"typing", 0, "user_1"),
                link.ToSockets(("g1.1", "g1.2", "g1.3"), b"fault", True),
            ]
        )
        await eventually(lambda: two.got[-1:] == [(b"fault", True)])
        assert one.got == [(b"hello", False), b"4", b"5", (b"fault", True)]
        assert two.got == [b"5", b"typing", (b"fault", True)]
        assert at.stub.seq == 5 and at.stub.epoch == 1


async def test_the_frames_of_one_iteration_of_the_loop_travel_together() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        for n in range(5):
            assert at.say(one, b"%d" % n)
        assert await at.said() == [] and await at.said() == [
            b"%d" % n for n in range(5)
        ]


async def test_what_is_for_one_socket_is_done() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        changed = Attachment("g1.1", "user_1", "New name", "busy", True)
        at.output(
            [
                link.CatchUp("g1.1", 5, 500),
                link.Recall("g1.1", 4),
                link.Kept(changed),
                link.Kept(Attachment("g1.9", "user_9", "x", "online")),
                link.Forward("presence:global", b"news"),
                link.Closing("g1.9", 4503, "no"),
            ]
        )
        await eventually(lambda: bool(at.forwarded))
        assert one.got == [("catch up", 5, 500), ("recall", 4)]
        assert at.forwarded == [("presence:global", b"news")]
        # The attachment is what the next activation is told.
        at.process.drop()
        await at.process.hears(link.Attach)
        again = await at.process.hears(link.Attach)
        assert again.sockets == [changed]


@pytest.mark.parametrize("but_user", [None, "user_3"])
async def test_a_socket_that_cannot_be_written_to_is_closed_alone(
    but_user: str | None,
) -> None:
    def broken(blob: bytes) -> None:
        raise ZeroDivisionError

    async with desk() as at:
        one, two = Outlet("g1.1"), Outlet("g1.2", "user_2")
        one.write = broken  # type: ignore[method-assign]
        await at.enter(one, two)
        at.output([link.Fanout(b"m1", 1, but_user)])
        await eventually(lambda: two.got == [b"m1"])
        assert one.got == ["failed"]


async def test_whom_the_object_closes_it_is_not_told_of_again() -> None:
    async with desk() as at:
        one, two = Outlet("g1.1"), Outlet("g1.2")
        await at.enter(one, two)
        at.output([link.Closing("g1.1", 1011, "internal error")])
        await eventually(lambda: 1011 in one.got)
        await at.process.hears(link.Attach)
        at.process.drop()
        again = await at.process.hears(link.Attach)
        assert again.sockets == [two.attachment]


async def test_what_is_not_covered_is_brought_again_in_order_and_once() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        await at.process.hears(link.Attach)
        for n in range(4):
            at.say(one, b"%d" % n)
        while await at.said() != [b"0", b"1", b"2", b"3"]:
            pass
        # 1 is Opened; the first two of the four are covered when the process dies.
        at.output([link.Fanout(b"m1", 1, None), link.Fanout(b"m2", 2, None)], covered=3)
        await eventually(lambda: at.stub.seq == 2)
        at.process.drop()
        attach = await at.process.hears(link.Attach)
        again = link.Attach(NAME, 1, 2, 3, 5, [one.attachment], shown_in=1)
        assert replace(attach, turn=0) == again
        inputs = await at.process.hears(link.Inputs)
        assert inputs.inputs == [link.Said(4, "g1.1", b"2"), link.Said(5, "g1.1", b"3")]
        # The next activation shows the gap; what was shown before is not shown twice.
        at.output(
            [
                link.Fanout(b"m2", 2, None),
                link.Fanout(b"m3", 3, None),
                link.Fanout(b"m4", 4, None),
            ],
            epoch=2,
            covered=5,
        )
        await eventually(lambda: at.stub.seq == 4)
        assert one.got == [b"m1", b"m2", b"m3", b"m4"]
        assert len(at.waits) == 4 and min(at.waits) >= 0


async def test_an_older_incarnation_has_nothing_to_say() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        at.say(one, b"x")
        await eventually(lambda: at.newest == 2)
        at.output([link.Fanout(b"new", 1, None)], epoch=3, covered=1)
        at.output([link.Fanout(b"old", 2, None)], epoch=2, covered=2)
        at.process.says(link.Goodbye(NAME, 2, 2, "idle"))
        # Its goodbye covered nothing, so the frame is brought to the next one.
        await at.process.hears(link.Attach)
        assert (await at.process.hears(link.Attach)).replay == 2
        assert one.got == [b"new"]


async def test_asleep_it_waits_for_a_reason() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        await at.process.hears(link.Attach)
        at.process.says(link.Goodbye(NAME, 1, at.newest, "idle"))
        await eventually(lambda: at.stub.life.asleep)
        assert at.names.resolved == 1 and not at.stub.life.idle
        at.say(one, b"wake up")
        attach = await at.process.hears(link.Attach)
        assert attach.sockets == [one.attachment] and attach.seq == 0
        await at.process.hears(link.Inputs)
        assert at.names.resolved == 2 and at.process.links == 1


async def test_called_back_it_attaches() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        await at.process.hears(link.Attach)
        at.process.says(link.Goodbye(NAME, 1, at.newest, "idle"))
        await eventually(lambda: at.stub.life.asleep)
        at.stub.life.wake()
        assert (await at.process.hears(link.Attach)).sockets == [one.attachment]


@pytest.mark.parametrize("reason", sorted(link.AGAIN))
async def test_a_reset_is_answered_on_the_same_link_at_once(reason: str) -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        await at.process.hears(link.Attach)
        at.say(one, b"uncovered")
        at.process.says(link.Goodbye(NAME, 1, at.newest, reason))
        await at.process.hears(link.Attach)
        while await at.said() != [b"uncovered"]:
            pass
        assert at.names.resolved == 1 and at.process.links == 1


@pytest.mark.parametrize("reason", ["duplicate_activation", "storage_failed"])
async def test_an_object_that_lives_elsewhere_is_looked_for(reason: str) -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        async with actor("2") as elsewhere:
            at.names.where = elsewhere.address
            at.process.says(link.Goodbye(NAME, 1, at.newest, reason))
            assert (await elsewhere.hears(link.Attach)).sockets == [one.attachment]


async def test_one_that_moved_sleeps_until_somebody_speaks() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        async with actor("2") as elsewhere:
            at.names.where = elsewhere.address
            at.process.says(link.Goodbye(NAME, 1, at.newest, "moved"))
            await eventually(lambda: at.stub.life.asleep)
            assert at.names.resolved == 1
            at.say(one, b"anybody?")
            assert (await elsewhere.hears(link.Attach)).sockets == [one.attachment]


async def test_one_that_moved_before_it_was_reached_is_looked_for() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        async with actor("2") as elsewhere:
            at.names.where = elsewhere.address
            at.process.says(link.Goodbye(NAME, 0, 0, "moved"))
            assert (await elsewhere.hears(link.Attach)).sockets == [one.attachment]


async def test_who_was_shown_to_type_is_shown_to_stop_where_it_moved() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        typing = replace(one.attachment, typing=True)
        at.process.says(link.Output(NAME, 1, at.newest, [link.Kept(typing)]))
        async with actor("2") as elsewhere:
            at.names.where = elsewhere.address
            at.process.says(link.Goodbye(NAME, 1, at.newest, "moved"))
            assert (await elsewhere.hears(link.Attach)).sockets == [typing]


async def test_silent_sockets_follow_a_room_that_is_still_to_tell_them_something() -> (
    None
):
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        async with actor("2") as elsewhere:
            at.names.where = elsewhere.address
            goodbye = link.Goodbye(NAME, 1, at.newest, "moved", due=True)
            at.process.says(goodbye)
            assert (await elsewhere.hears(link.Attach)).sockets == [one.attachment]


async def test_a_crowd_is_told_who_is_there_each_with_itself() -> None:
    async with desk() as at:
        one, two, three = [Outlet(f"g1.{n}", f"user_{n}") for n in (1, 2, 3)]
        await at.enter(one, two, three)
        frame = b'{"participants":["old",{"id":"user_3"}]}'
        old, users = frame.index(b'"old"'), ("old", "user_3")
        roll = link.Roll(frame, old, old + 5, users, None, ("g1.2",))
        at.output([roll])
        await eventually(lambda: bool(one.got))
        [pieces] = one.got
        [told] = payloads(b"".join(pieces))  # type: ignore[arg-type]
        ids = [each["id"] for each in msgspec.json.decode(told)["participants"]]
        assert ids == ["user_1", "user_3"]
        assert three.got == [(link.text_frame(frame),)]
        assert two.got == []
        assert at.traffic.deliveries == 2
        # By name: who has gone meanwhile is not told, nor who has to catch up first.
        at.stub.close(one)
        at.output([link.CatchUp("g1.2", 0, 9)])
        at.output([replace(roll, conns=("g1.1", "g1.2", "g1.3"), but=())])
        await eventually(lambda: len(three.got) == 2)
        assert two.got == [("catch up", 0, 9)]
        assert len(one.got) == 1


async def test_of_a_crowd_a_hundred_acks_a_second_are_passed_on() -> None:
    async with desk() as at:

        def said() -> list[bytes]:
            heard = [m for m in at.process.heard if isinstance(m, link.Inputs)]
            inputs = [each for message in heard for each in message.inputs]
            return [each.data for each in inputs if isinstance(each, link.Said)]

        crowd = [Outlet(f"g1.{n}", f"user_{n}") for n in range(201)]
        await at.enter(*crowd[:200])
        ack = b'{"type":"ack","ackId":"m","status":"read"}'
        now = asyncio.get_running_loop().time()
        for outlet in crowd[:200]:  # as many as no crowd could have
            at.stub.say(outlet, ack, now)
        await eventually(lambda: len(said()) == 200)
        await at.enter(crowd[200])
        await eventually(lambda: len(at.stub._audience.members) == 201)
        for outlet in crowd:
            at.stub.say(outlet, ack, now)
        at.stub.say(crowd[0], b'{"type":"chat","content":"hi"}', now)
        at.stub.say(crowd[0], ack, now + 1.0)
        await eventually(lambda: len(said()) == 302)
        assert said()[-2:] == [b'{"type":"chat","content":"hi"}', ack]
        assert crowd[200].uncovered == 0  # what was dropped costs nothing


async def test_a_gap_larger_than_the_buffer_is_paged_before_attaching() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        await at.process.hears(link.Attach)
        at.process.says(link.Goodbye(NAME, 1, at.newest, "behind"))
        await eventually(lambda: at.paged == [at.stub])
        at.stub.life.wake()  # too early: it goes on where paging ends
        at.stub.caught_up(b"1-300", 300, 1)
        at.stub.life.paged()
        attach = await at.process.hears(link.Attach)
        assert attach.seq == 300 and one.got == [b"1-300"]


async def test_what_is_not_covered_in_time_is_answered() -> None:
    async with desk() as at:
        one, gone = Outlet("g1.1"), Outlet("g1.2")
        await at.enter(one, gone)
        at.say(one, b"old")
        at.say(gone, b"nobody asks")
        told = at.stub.notify(b"news", once=True)
        at.stub.close(gone)
        late = Outlet("g1.3")
        at.stub.open(late, late.attachment, None, False)
        now = asyncio.get_running_loop().time()
        at.stub.overdue.expire(now + overdue.EXPIRE_AFTER_S - 0.5)
        assert one.got == [] and not told.done()
        at.expire()
        assert one.got == [("refused", b"old")] and gone.got == []
        with pytest.raises(Unavailable):
            await told
        # Who came and went is not forgotten: the next activation has to know.
        await eventually(lambda: at.newest == 7)
        at.process.drop()
        await at.process.hears(link.Attach)
        await at.process.hears(link.Attach)
        inputs = await at.process.hears(link.Inputs)
        kinds = [type(entry) for entry in inputs.inputs]
        assert kinds == [link.Closed, link.Opened]


async def test_what_a_gap_has_shown_since_is_not_refused() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        at.say(one, b"said")
        await eventually(lambda: at.newest == 2)
        # The object that took it is gone; the next shows it and has yet to cover it.
        at.output([link.Fanout(b"1-2", 2, None)], epoch=2, covered=1)
        await eventually(lambda: one.got == [b"1-2"])
        at.expire(said=2)
        at.expire(said=2)
        assert one.got == [b"1-2"] and one.uncovered == 0


async def test_what_a_page_has_shown_since_is_not_refused() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        at.say(one, b"said")
        at.names.where = None
        at.process.says(link.Goodbye(NAME, 1, 1, "behind"))
        await eventually(lambda: at.paged == [at.stub])
        at.stub.caught_up(b"1-300", 300, 1)
        at.stub.life.paged()  # and nobody knows where the object is
        at.expire(said=299)
        assert one.got == [b"1-300"] and at.paged == [at.stub]


@pytest.mark.parametrize("attached", [True, False])
async def test_what_only_others_were_shown_comes_out_of_the_log(attached: bool) -> None:
    async with desk() as at:
        one, two = Outlet("g1.1"), Outlet("g1.2")
        await at.enter(one, two)
        at.say(one, b"said")
        at.say(two, b"not said")
        await eventually(lambda: at.newest == 4)
        await at.process.hears(link.Attach)
        if not attached:
            at.names.where = None
            at.process.drop()
            await eventually(lambda: at.stub.life.asleep)
        at.expire(said=2)
        assert one.got == [] and two.got == [("refused", b"not said")]
        assert at.paged == [at.stub]
        if attached:  # what the object says now it says again to the next attach
            at.output([link.Fanout(b"1-2", 2, None)])
        at.stub.caught_up(b"1", 1, 1)
        at.stub.caught_up(b"2", 2, 1)
        at.names.where = at.process.address
        at.stub.life.paged()
        attach = await at.process.hears(link.Attach)
        assert attach.seq == 2 and attach.epoch == 1
        assert one.got == [b"1", b"2"]


async def test_what_the_log_loses_before_it_is_shown_is_said_again() -> None:
    """It was found there, and a failover took it back before anybody could read it."""
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        at.say(one, b"said")
        await eventually(lambda: at.newest == 2)
        await at.process.hears(link.Attach)
        at.names.where = None
        at.process.drop()
        await eventually(lambda: at.stub.life.asleep)
        at.expire(said=2)
        assert one.got == [] and one.uncovered and at.paged == [at.stub]
        at.stub.overdue.settle([2], None)  # who is asked again does not say
        assert one.got == [] and one.uncovered
        at.names.where = at.process.address
        at.stub.life.paged()  # with nothing
        attach = await at.process.hears(link.Attach)
        assert attach.replay == 2
        inputs = await at.process.hears(link.Inputs)
        assert [entry.n for entry in inputs.inputs] == [2]


async def test_the_late_repeat_of_what_was_seen_is_answered_with_it() -> None:
    async with desk() as at:
        one, two = Outlet("g1.1"), Outlet("g1.2")
        await at.enter(one, two)
        at.output([link.Fanout(b"1-3", 3, None)])
        await eventually(lambda: one.got == [b"1-3"])
        at.say(one, b"again")
        at.expire(again=2)
        assert one.got == [b"1-3", (b"echo", False)] and two.got == [b"1-3"]


async def test_a_repeat_that_the_log_has_answered_is_answered_by_nobody_else() -> None:
    async with desk() as at:
        one, two = Outlet("g1.1"), Outlet("g1.2")
        await at.enter(one, two)
        at.output([link.Fanout(b"1-3", 3, None)])
        await eventually(lambda: one.got == two.got == [b"1-3"])
        at.say(one, b"again")
        await eventually(lambda: at.newest == 3)
        at.expire(again=2)
        echoes = [link.ToSockets((each.conn,), b"2", False, 2) for each in (one, two)]
        at.output([*echoes, link.ToSockets((one.conn,), b"no echo", False)])
        await eventually(lambda: len(two.got) == 2)
        assert one.got == [b"1-3", (b"echo", False), (b"no echo", False)]
        # One more is the answer to another repeat of it.
        at.say(one, b"again")
        await eventually(lambda: at.newest == 4)
        at.output([link.Recall(one.conn, 2)])
        await eventually(lambda: one.got[3:] == [("recall", 2)])


@pytest.mark.parametrize("how", ["covered", "attached anew"])
async def test_what_the_object_will_not_answer_hides_no_later_echo(how: str) -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        at.output([link.Fanout(b"1-3", 3, None)])
        await eventually(lambda: one.got == [b"1-3"])
        at.say(one, b"again")
        await eventually(lambda: at.newest == 2)
        at.expire(again=2)
        if how == "covered":
            at.output([])
        else:
            at.process.says(link.Goodbye(NAME, 1, 1, "reset"))
            await at.process.hears(link.Attach)
            await at.process.hears(link.Attach)
        at.say(one, b"again")
        await eventually(lambda: at.newest == 3)
        at.output([link.ToSockets((one.conn,), b"2", False, 2)])
        await eventually(lambda: one.got[2:] == [(b"2", False)])


@pytest.mark.parametrize("since", [None, 6])
async def test_who_is_not_let_in_for_so_long_is_to_come_again(
    since: int | None,
) -> None:
    async with desk() as at:
        one, two = Outlet("g1.1"), Outlet("g1.2")
        await at.enter(one)
        at.stub.open(two, two.attachment, since, False)
        at.say(two, b"said")
        at.say(two, b"not said")
        at.expire(said=7)
        assert sorted(two.got, key=str) == [("refused", b"not said"), 1013]
        assert one.got == [] and at.paged == []


async def test_who_is_on_the_way_in_has_the_echo_of_what_it_had_seen() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        at.stub.open(one, one.attachment, 7, False)
        at.say(one, b"again")
        at.expire(again=7)
        assert one.got == [(b"echo", False)] and at.paged == []


async def test_who_catches_up_finds_what_was_said_in_its_turn() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        at.stub.open(one, one.attachment, 1, False)
        await eventually(lambda: at.newest == 1)
        at.output([link.CatchUp(one.conn, 1, 9)])
        await eventually(lambda: one.got == [("catch up", 1, 9)])
        at.say(one, b"said")
        at.say(one, b"again")
        at.expire(said=7, again=1)
        assert one.got[1:] == [(b"echo", False)] and at.paged == []
        at.stub.open(one, one.attachment, 9, greeted=True)
        at.expire()
        assert one.got[2:] == []


async def test_what_is_covered_while_the_log_is_asked_is_answered() -> None:
    async with desk() as at:
        one, gone = Outlet("g1.1"), Outlet("g1.2")
        await at.enter(one, gone)
        at.say(one, b"said")
        at.say(gone, b"and left")
        await eventually(lambda: at.newest == 4)
        at.stub.overdue.expire(
            asyncio.get_running_loop().time() + overdue.EXPIRE_AFTER_S + 0.1
        )
        at.stub.close(gone)
        at.output([link.Fanout(b"1", 1, None)], covered=3)
        await eventually(lambda: one.got == [b"1"])
        at.stub.overdue.settle({each.said.n for each in at.late}, {})
        assert one.got == [b"1"] and gone.got == []
        assert one.uncovered == at.stub._pending.size == 0


async def test_one_socket_may_have_so_much_on_its_way_whatever_others_have() -> None:
    async with desk() as at:
        one, two = Outlet("g1.1"), Outlet("g1.2")
        await at.enter(one, two)
        said = 1
        while at.say(one, b"x"):
            said += 1
        assert said == -(-uncovered.SOCKET_BUDGET // (1 + uncovered.FRAME_COST))
        assert at.say(two, b"y")
        # Nothing was refused: it is all on its way, and then there is room again.
        await eventually(lambda: at.newest == 2 + said + 1)
        assert one.got == two.got == []
        at.output([], covered=at.newest - 1)
        await eventually(lambda: one.got == ["go on"])
        assert at.say(one, b"x") and not two.full
        assert at.say(two, b"y" * 16_384)


async def test_who_floods_together_leaves_room_for_everybody() -> None:
    async with desk() as at:
        crowd = [Outlet(f"g1.{n}") for n in range(40)]
        quiet = Outlet("g1.40", "user_2")
        await at.enter(*crowd, quiet)
        loud = list(crowd)
        while loud:
            loud = [outlet for outlet in loud if at.say(outlet, b"x" * 1000)]
        kept = sum(outlet.uncovered for outlet in crowd)
        assert kept <= uncovered.OBJECT_BUDGET + len(crowd) * (
            1000 + uncovered.FRAME_COST
        )
        # One frame of somebody who had none is still taken, sent and never refused.
        at.say(quiet, b"hello")
        assert quiet.full
        await eventually(lambda: at.newest == max(each.n for each in at.stub._pending))
        at.output([])
        await eventually(lambda: all("go on" in o.got for o in [*crowd, quiet]))
        assert {o.uncovered for o in [*crowd, quiet]} == {0}


async def test_what_was_held_back_is_answered_as_late_as_the_rest() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        now = asyncio.get_running_loop().time()
        at.stub.say(one, b"young", now)
        at.stub.say(one, b"held", now - overdue.EXPIRE_AFTER_S)
        at.stub.overdue.expire(now)
        assert [each.said.data for each in at.late] == [b"held"]
        at.stub.overdue.settle({each.said.n for each in at.late}, {})
        assert one.got == [("refused", b"held")]
        assert one.uncovered == len(b"young") + uncovered.FRAME_COST


async def test_who_leaves_over_an_answer_takes_no_other_answer_along() -> None:
    async with desk() as at:
        slow, other = Outlet("g1.1"), Outlet("g1.2")
        await at.enter(slow, other)
        at.say(slow, b"one")
        at.say(slow, b"two")
        at.say(other, b"three")

        def refused(data: bytes) -> None:
            slow.got.append(("refused", data))
            at.stub.close(slow)  # as `Connection.end` does when the buffer is full

        slow.refused = refused  # type: ignore[method-assign]
        at.expire()
        assert slow.got == [("refused", b"one")]
        assert other.got == [("refused", b"three")] and other.uncovered == 0
        assert [type(p.input) for p in at.stub._pending] == [link.Closed]
        assert at.stub._pending.size == 0


async def test_a_notification_is_sent_once_whatever_becomes_of_it() -> None:
    async with desk() as at:
        one = Outlet("g1.1")
        await at.enter(one)
        told = at.stub.notify(b"news", once=True)
        await eventually(lambda: at.newest == 2)
        at.process.drop()
        await at.process.hears(link.Attach)
        await at.process.hears(link.Attach)
        inputs = await at.process.hears(link.Inputs)
        assert inputs.inputs == [link.GivenBefore(2)]
        at.output([], epoch=2)
        await patience.wait_for(told, 2)


async def test_a_namespace_that_does_not_know_is_asked_again() -> None:
    async with desk() as at:
        where, at.names.where = at.names.where, None
        one = Outlet("g1.1")
        at.stub.open(one, one.attachment, None, False)
        await eventually(lambda: at.names.resolved >= 3)
        with pytest.raises(Unavailable):
            await at.stub.life.reach()
        at.names.where = where
        await at.process.hears(link.Inputs)


async def test_nobody_needs_it_any_more() -> None:
    async with desk() as at:
        assert at.stub.life.idle
        with at.stub.life.wanted():
            assert not at.stub.life.idle
        one = Outlet("g1.1")
        await at.enter(one)
        at.stub.close(one)
        at.stub.close(one)
        await eventually(lambda: at.newest == 2)
        at.output([])
        await eventually(lambda: not at.stub._pending)
        assert not at.stub.life.idle
        at.process.says(link.Goodbye(NAME, 1, 2, "idle"))
        await eventually(lambda: at.stub.life.idle)


@pytest.mark.parametrize("but_user", [None, "user_9"], ids=["all", "others"])
async def test_a_socket_that_ends_in_the_fan_out_never_breaks_the_others(
    but_user: str | None,
) -> None:
    async with desk() as at:
        three = [Outlet(f"g1.{n}") for n in (1, 2, 3)]
        await at.enter(*three)

        def full(blob: bytes) -> None:
            # As `Connection` does when its transport says that it is slow.
            three[1].got.append(blob)
            at.stub.close(three[1])

        three[1].write = full
        at.stub._writers = None
        at.output([link.Fanout(b"x", 0, but_user), link.Fanout(b"y", 1, None)])
        await eventually(lambda: three[2].got[-1:] == [b"y"])
        assert three[0].got == three[2].got == [b"x", b"y"]
        assert three[1].got == [b"x"]
        assert at.process.links == 1


@pytest.mark.parametrize("but_user", [None, "user_9"], ids=["all", "others"])
async def test_a_bug_in_one_socket_ends_that_socket_alone(
    but_user: str | None,
) -> None:
    async with desk() as at:
        three = [Outlet(f"g1.{n}") for n in (1, 2, 3)]
        await at.enter(*three)

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        three[1].write = three[1].told = broken  # type: ignore[method-assign]
        at.stub._writers = None
        conns = tuple(o.conn for o in three)
        told = link.ToSockets(conns, b"t", False, 0)
        at.output([told, link.Fanout(b"x", 1, but_user), link.Fanout(b"y", 2, None)])
        await eventually(lambda: three[2].got[-1:] == [b"y"])
        assert three[0].got == three[2].got == [(b"t", False), b"x", b"y"]
        assert three[1].got == ["failed"] * 3
        assert at.process.links == 1
