"""From confirmed steps to what each gateway is sent: order, grouping, covering."""

from typing import Any

from msgspec.structs import replace

from actors.gates import Step
from actors.release import Release, Seat, Seating
from cfmessenger.chat import effects as fx
from cfmessenger.link import messages as link
from tests.actors.scene import attachment

A, B = "gA", "gB"


class Gateway:
    """Keeps what it is sent."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self.got: list[link.Output] = []

    def send(self, message: link.ToGateway) -> None:
        assert isinstance(message, link.Output)
        self.got.append(message)


class Hall:
    """A release with two attached gateways, A and B; `run` shows one step each."""

    def __init__(self, *gateways: str) -> None:
        self.gateways = {name: Gateway(name) for name in gateways or (A, B)}
        self.seats: dict[str, Seat] = {}
        self.elsewhere: list[tuple[fx.Effect, str | None]] = []
        self.release = Release(
            self.seats, lambda effect, gateway: self.elsewhere.append((effect, gateway))
        )
        for name in self.gateways:
            self.sit(name)
            self.run(self.seating(name, (), 0))
        self.forget()

    def sit(self, gateway: str, covered: int = 0, replay: int = 0) -> Seat:
        seat = Seat(self.gateways[gateway], covered, replay)
        self.seats[gateway] = seat
        return seat

    def seating(self, gateway: str, missed: tuple[bytes, ...], seq: int) -> Step[Seat]:
        """The step of the latest attach."""
        return Step((Seating(self.seats[gateway], missed, seq),), None, 0)

    def run(self, *steps: Step[Seat]) -> None:
        self.release.run("room:x", 3, list(steps))

    def forget(self) -> None:
        for each in self.gateways.values():
            each.got.clear()

    def step(
        self, gateway: str | None, n: int, *effects: Any, seen: int | None = None
    ) -> Step[Seat]:
        return Step(effects, self.seats[gateway] if gateway else None, n, seen)

    def outputs(self, gateway: str) -> list[link.Output]:
        return self.gateways[gateway].got

    def items(self, gateway: str) -> list[link.Item]:
        return [item for output in self.outputs(gateway) for item in output.items]


def text(payload: bytes) -> bytes:
    return link.text_frame(payload)


def durable(seq: int) -> fx.Append:
    return fx.Append(seq, b"%d" % seq, shown=True)


def test_one_output_a_gateway_says_what_is_covered() -> None:
    hall = Hall()
    hall.run(hall.step(A, 7, durable(1)), hall.step(A, 8, durable(2)))
    fanout = link.Fanout(text(b"1") + text(b"2"), 2, None)
    assert hall.outputs(A) == [link.Output("room:x", 3, 8, [fanout])]
    assert hall.outputs(B) == [link.Output("room:x", 3, 0, [fanout])]


def test_what_shows_nothing_is_covered_all_the_same() -> None:
    hall = Hall()
    hall.run(hall.step(A, 5))
    assert hall.outputs(A) == [link.Output("room:x", 3, 5, [])]
    assert hall.outputs(B) == []
    hall.run(hall.step(None, 0))
    assert len(hall.outputs(A)) == 1, "said once is enough"


def test_what_is_for_one_socket_splits_the_broadcasts_around_it() -> None:
    hall = Hall()
    told = fx.Send(("gA.1",), b"only you")
    hall.run(hall.step(A, 1, durable(1), told, durable(2)))
    assert hall.items(A) == [
        link.Fanout(text(b"1"), 1, None),
        link.ToSockets(("gA.1",), text(b"only you"), False),
        link.Fanout(text(b"2"), 2, None),
    ]
    shown = b"".join(i.blob for i in hall.items(B) if isinstance(i, link.Fanout))
    assert shown == text(b"1") + text(b"2")


def test_a_roll_is_for_all_but_some_or_for_those_of_each_gateway() -> None:
    hall = Hall()
    roll = fx.Roll(b"[1,2]", 1, 2, ("user_1", "user_2"), but=("gA.1",))
    hall.run(hall.step(A, 1, durable(1), roll, durable(2)))
    item = link.Roll(b"[1,2]", 1, 2, ("user_1", "user_2"), None, ("gA.1",))
    around = link.Fanout(text(b"1"), 1, None), link.Fanout(text(b"2"), 2, None)
    assert hall.items(A) == hall.items(B) == [around[0], item, around[1]]
    hall.forget()
    some = replace(roll, conns=("gA.1", "gB.1", "gA.2"), but=())
    hall.run(hall.step(None, 0, some))
    assert hall.items(A) == [replace(item, conns=("gA.1", "gA.2"), but=())]
    assert hall.items(B) == [replace(item, conns=("gB.1",), but=())]


def test_a_roll_is_kept_for_who_is_called_back_as_no_gap_brings_it() -> None:
    hall = Hall(A)
    hall.gateways[B] = Gateway(B)
    hall.release.call([B])
    roll = fx.Roll(b"[1]", 1, 2, ("user_1",))
    hall.run(hall.step(None, 0, roll))
    hall.sit(B)
    hall.run(hall.seating(B, (), 0))
    assert hall.items(B) == [link.Roll(b"[1]", 1, 2, ("user_1",), None, ())]


def test_a_broadcast_but_for_one_keeps_its_place() -> None:
    hall = Hall(A)
    typing = fx.Broadcast(b"typing", "user_1")
    hall.run(hall.step(A, 1, durable(1), typing, durable(2)))
    assert hall.items(A) == [
        link.Fanout(text(b"1"), 1, None),
        link.Fanout(text(b"typing"), 0, "user_1"),
        link.Fanout(text(b"2"), 2, None),
    ]


def test_a_durable_broadcast_but_for_one_lends_its_seq_to_nothing_around_it() -> None:
    # A gateway passes over a fan-out up to the last `seq` it has: either would be lost.
    hall = Hall(A)
    but = fx.Broadcast(b"typing", "user_1")
    later = fx.Broadcast(b"left", None)
    hall.run(hall.step(A, 1, durable(1), but, later, durable(2)))
    assert hall.items(A) == [
        link.Fanout(text(b"1"), 1, None),
        link.Fanout(text(b"typing"), 0, "user_1"),
        link.Fanout(text(b"left"), 0, None),
        link.Fanout(text(b"2"), 2, None),
    ]


def test_what_is_only_durable_is_shown_to_nobody() -> None:
    hall = Hall(A)
    hall.run(hall.step(A, 1, fx.Append(1, b"private"), fx.Broadcast(b"left")))
    assert hall.items(A) == [link.Fanout(text(b"left"), 0, None)]


def test_a_run_that_ends_ephemeral_still_tells_its_seq() -> None:
    hall = Hall(A)
    hall.run(hall.step(A, 1, durable(4), fx.Broadcast(b"left")))
    shown = [i for i in hall.items(A) if isinstance(i, link.Fanout)]
    assert b"".join(i.blob for i in shown) == text(b"4") + text(b"left")
    assert max(i.seq for i in shown) == 4
    hall.forget()
    hall.run(hall.step(A, 2, fx.Broadcast(b"later")))
    assert hall.items(A) == [link.Fanout(text(b"later"), 0, None)]


def test_each_gateway_gets_its_own_sockets() -> None:
    hall = Hall()
    many = ("gA.1", "gB.1", "gA.2", "gone.1")
    hall.run(hall.step(A, 1, fx.Send(many, b"hi", True), fx.Subscribe(many)))
    assert hall.items(A) == [
        link.ToSockets(("gA.1", "gA.2"), text(b"hi"), True),
        link.Subscribed(("gA.1", "gA.2"), 0),
    ]
    assert hall.items(B) == [
        link.ToSockets(("gB.1",), text(b"hi"), True),
        link.Subscribed(("gB.1",), 0),
    ]


def test_a_subscription_knows_what_was_shown_before_it() -> None:
    hall = Hall(A)
    enter = fx.Subscribe(("gA.9",))
    hall.run(hall.step(A, 1, durable(1), enter, durable(2)))
    assert hall.items(A) == [
        link.Fanout(text(b"1"), 1, None),
        link.Subscribed(("gA.9",), 1),
        link.Fanout(text(b"2"), 2, None),
    ]


def test_everything_else_becomes_its_item() -> None:
    hall = Hall(A)
    kept = attachment("gA.1")
    hall.run(
        hall.step(
            A,
            1,
            fx.Behind("gA.1", 3, 500),
            fx.Close("gA.1", 4001, "bye"),
            fx.KeepAttachment(kept),
            fx.Notify("presence:global", b"n"),
            fx.Repeat("gA.1", 4, b"again"),
            fx.Repeat("gA.1", 5, None),
        )
    )
    assert hall.items(A) == [
        link.CatchUp("gA.1", 3, 500),
        link.Closing("gA.1", 4001, "bye"),
        link.Kept(kept),
        link.Forward("presence:global", b"n"),
        link.ToSockets(("gA.1",), text(b"again"), False, 4),
        link.Recall("gA.1", 5),
    ]


def test_what_is_for_no_gateway_goes_elsewhere_with_its_origin() -> None:
    hall = Hall()
    record, touch = fx.Record("user_1", "busy", 1, True), fx.Touch(("a", "b"), 5)
    hall.run(hall.step(B, 1, record), hall.step(None, 0, touch))
    assert hall.elsewhere == [(record, B), (touch, None)]


def test_a_gateway_gets_broadcasts_from_its_attach_on_and_the_gap_first() -> None:
    hall = Hall(A, B)
    hall.forget()
    hall.sit(B, covered=4)
    hall.run(
        hall.step(A, 1, durable(3)),  # was in flight when B attached
        hall.seating(B, (b"2", b"3"), 3),
        hall.step(A, 2, durable(4)),
    )
    assert hall.items(B) == [
        link.Fanout(text(b"2") + text(b"3"), 3, None),
        link.Fanout(text(b"4"), 4, None),
    ]
    assert hall.outputs(B)[0].covered == 4


def test_a_gap_of_nothing_sends_nothing() -> None:
    hall = Hall(A)
    hall.sit(A, covered=4)
    hall.run(hall.seating(A, (), 9))
    assert hall.outputs(A) == []


def test_an_echo_that_a_gap_or_page_brought_is_not_repeated() -> None:
    # However often the link broke since: what counts is what the socket had seen when
    # it spoke, not what its gateway had when it attached.
    hall = Hall(A)
    hall.sit(A, covered=1, replay=5)
    hall.run(
        hall.seating(A, (), 12),
        hall.step(A, 2, fx.Repeat("gA.1", 11, b"11"), seen=10),
        # Seen before it spoke: the client sent an old id, it gets its echo.
        hall.step(A, 3, fx.Repeat("gA.1", 10, b"10"), seen=10),
        # Of a socket on its way in: its history shows what is in the buffer ...
        hall.step(A, 4, fx.Repeat("gA.2", 9, b"9"), seen=None),
        # ... and nothing older.
        hall.step(A, 5, fx.Repeat("gA.2", 1, None), seen=None),
        # New on this link: a real duplicate of what the gap brought.
        hall.step(A, 6, fx.Repeat("gA.1", 12, b"12"), seen=10),
    )
    told = [item.blob for item in hall.items(A) if isinstance(item, link.ToSockets)]
    assert told == [text(b"10"), text(b"12")]
    assert link.Recall("gA.2", 1) in hall.items(A)
    assert hall.outputs(A)[0].covered == 6


def test_what_an_old_link_caused_covers_nothing_on_the_new_one() -> None:
    hall = Hall(A)
    old = hall.step(A, 5, durable(1))
    hall.sit(A, covered=4, replay=5)
    hall.run(old, hall.seating(A, (b"1",), 1))
    assert [output.covered for output in hall.outputs(A)] == [4]
    assert hall.items(A) == [link.Fanout(text(b"1"), 1, None)]


def test_what_an_old_link_caused_is_not_told_on_the_new_one() -> None:
    # The gateway brings the input back, for it is not covered: told twice otherwise.
    hall = Hall(A)
    greeting = fx.Send(("gA.1",), b"welcome")
    old = hall.step(A, 5, greeting, fx.Subscribe(("gA.1",)))
    hall.sit(A, covered=4, replay=5)
    hall.run(old, hall.seating(A, (), 0), hall.step(A, 5, greeting))
    assert hall.items(A) == [link.ToSockets(("gA.1",), text(b"welcome"), False)]


def test_what_an_attach_before_caused_is_not_shown_on_the_seat_after() -> None:
    # Shown without being covered, it would be echoed again after the next break.
    hall = Hall(A)
    hall.sit(A)
    first = hall.seating(A, (b"1",), 1)
    said = hall.step(A, 5, durable(2))
    hall.sit(A, covered=4, replay=5)
    hall.run(first, said)
    assert hall.outputs(A) == []
    hall.run(hall.seating(A, (b"1", b"2"), 2), hall.step(A, 5))
    gap = link.Fanout(text(b"1") + text(b"2"), 2, None)
    assert hall.outputs(A) == [link.Output("room:x", 3, 5, [gap])]


def test_a_notification_survives_the_link_that_caused_it() -> None:
    hall = Hall(A)
    old = hall.step(A, 5, fx.Notify("presence:global", b"n"))
    hall.sit(A, covered=4, replay=5)
    hall.run(old, hall.seating(A, (), 0))
    assert hall.items(A) == [link.Forward("presence:global", b"n")]


def test_a_gateway_that_left_is_sent_nothing() -> None:
    hall = Hall()
    old = hall.step(A, 1, durable(1))
    del hall.seats[A]
    hall.run(old)
    assert hall.outputs(A) == []
    assert hall.items(B) == [link.Fanout(text(b"1"), 1, None)]


def test_a_notification_without_a_cause_takes_any_gateway() -> None:
    hall = Hall()
    hall.run(Step((fx.Notify("presence:global", b"n"),), None, 0))
    forwards = hall.items(A) + hall.items(B)
    assert forwards == [link.Forward("presence:global", b"n")]


NEWS = fx.News(True, 900, 3, False, [], ["user_1"], [])


def test_who_is_online_is_told_to_that_gateway_alone_behind_what_came_before() -> None:
    hall = Hall()
    hall.run(hall.step(None, 0, fx.Broadcast(b"x"), fx.Tell(A, NEWS)))
    assert hall.items(A) == [link.Fanout(text(b"x"), 0, None), link.People(NEWS)]
    assert hall.items(B) == [link.Fanout(text(b"x"), 0, None)]
    # Whoever is not seated says what it wants when it is, and is told all of it.
    hall.forget()
    hall.sit(A)
    hall.run(hall.step(None, 0, fx.Tell(A, NEWS), fx.Tell("gone", NEWS)))
    assert hall.items(A) == []
    hall.run(hall.seating(A, (), 0), hall.step(None, 0, fx.Tell(A, NEWS)))
    assert hall.items(A) == [link.People(NEWS)]


def test_two_who_meet_are_told_at_the_gateways_of_their_sockets() -> None:
    hall = Hall()
    two = ("user_1", "user_2")
    hall.run(hall.step(A, 1, fx.Meet(("gA.1", "gB.1", "gA.2"), two)))
    assert hall.items(A) == [link.Met(("gA.1", "gA.2"), two)]
    assert hall.items(B) == [link.Met(("gB.1",), two)]
