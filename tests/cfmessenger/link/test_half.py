"""A gateway's half of a link: what leaves for the object, and whom it believes."""

from typing import NamedTuple

import pytest

from cfmessenger.chat.effects import Attachment, News, Wants
from cfmessenger.link import messages as link
from cfmessenger.link.half import Half
from cfmessenger.link.onlookers import Onlookers

NAME = "room:x"


class Socket(NamedTuple):
    conn: str


class Payer:
    uncovered = 0
    full = False


def attachment(conn: str = "g.1") -> Attachment:
    return Attachment(conn, "user_1", "Tom", "online")


def opened(n: int, conn: str = "g.1") -> link.Opened:
    return link.Opened(n, attachment(conn), None, False)


def said(n: int, conn: str = "g.1") -> link.Said:
    return link.Said(n, conn, b"{}", 0)


def goodbye(epoch: int, reason: str) -> link.Goodbye:
    return link.Goodbye(NAME, epoch, 0, reason)


def entering(*conns: str) -> Half[Socket]:
    """With these sockets on their way in, their Openeds 1, 2, ... pending."""
    half = Half[Socket](NAME)
    for n, conn in enumerate(conns, 1):
        half.audience.enter(Socket(conn), None)
        half.pending.push(opened(n, conn), 0.0)
    return half


def test_what_was_queued_leaves_as_one_message_of_this_attach_and_once() -> None:
    half = entering("g.1")
    half.attach(7)
    for entry in (said(2), said(3)):
        half.pending.push(entry, 0.0)
        half.pending.queue(entry)
    assert half.queued() == link.Inputs(NAME, [said(2), said(3)], 7)
    assert half.queued() is None, "an empty message tells nobody anything"


def test_an_attach_says_who_is_here_then_all_that_is_not_covered() -> None:
    half = entering("g.1")
    half.pending.push(said(2), 0.0)
    half.pending.queue(said(2))
    assert half.attach(1) == [
        link.Attach(NAME, 0, None, 0, 0, [], 1),
        link.Inputs(NAME, [opened(1), said(2)], 1),
    ]
    assert half.queued() is None, "it went with the attach"
    half.pending.cover(2)
    half.audience.known(attachment())
    half.let_in(link.Subscribed(("g.1",), 5))
    half.epoch = 3
    # What is already there is an attach alone, from where its sockets are.
    assert half.attach(2) == [link.Attach(NAME, 3, 5, 2, 2, [attachment()], 2)]


def test_an_attach_says_who_showed_what_was_seen() -> None:
    """Also of sockets that have left: nobody else may know by now."""
    half = entering("g.1")
    half.attach(1, "one")
    half.epoch = 3
    half.let_in(link.Subscribed(("g.1",), 5))
    (again,) = [m for m in half.attach(2, "one") if isinstance(m, link.Attach)]
    assert (again.seq, again.known) == (5, 5)
    assert (again.shown_in, again.elsewhere) == (3, False)
    half.audience.leave("g.1")
    (again,) = [m for m in half.attach(3, "other") if isinstance(m, link.Attach)]
    assert (again.seq, again.known) == (None, 5)
    assert (again.shown_in, again.elsewhere) == (3, True)
    half.shown(4, 7, "other")
    assert (half.shown_in, half.audience.seq) == (3, 5), "it had more, earlier"
    half.shown(6, 4, "")  # as the log has it
    (again,) = [m for m in half.attach(4, "third") if isinstance(m, link.Attach)]
    assert (again.known, again.shown_in, again.elsewhere) == (6, 4, False)


def test_who_is_let_in_has_seen_what_its_history_held() -> None:
    half = entering("g.1", "g.2")
    half.pending.pay(Payer(), b"{}")
    half.pending.push(said(3), 0.0)
    half.let_in(link.Subscribed(("g.1",), 5))
    assert list(half.audience.members) == ["g.1"]
    [pending] = [each for each in half.pending if each.n == 3]
    assert isinstance(pending.input, link.Said) and pending.input.seen == 5
    assert half.audience.seq == 5


@pytest.mark.parametrize("reason", [*sorted(link.AGAIN), "behind"])
def test_who_wants_to_be_attached_anew_is_not_at_rest(reason: str) -> None:
    half = Half[Socket](NAME)
    assert half.ended(goodbye(4, reason))
    assert (half.epoch, half.rested) == (4, 0)


def test_of_who_left_the_epoch_is_told_to_the_next_life() -> None:
    half = Half[Socket](NAME)
    assert half.ended(goodbye(4, "idle"))
    [attach] = half.attach(1)
    assert attach == link.Attach(NAME, 4, None, 0, 0, [], 1, rested=4)


def test_the_goodbye_of_an_older_life_covers_nothing() -> None:
    half = Half[Socket](NAME)
    half.epoch = 5
    assert not half.ended(goodbye(4, "idle"))
    assert (half.epoch, half.rested) == (5, 0)


def test_needed_by_whoever_waits_or_is_known() -> None:
    half = entering("g.1")
    assert half.needed
    half.pending.cover(1)
    assert not half.needed
    half.audience.known(attachment())
    assert half.needed


def test_under_a_new_name_nothing_is_known_of_what_rests() -> None:
    half = entering("g.1")
    half.ended(goodbye(4, "idle"))
    half.rename({"g.1": "g~2.1"})
    assert half.rested == 0
    assert [each.conn for each in half.pending] == ["g~2.1"]


def test_what_sockets_want_leaves_behind_their_inputs_and_whole_with_an_attach() -> (
    None
):
    crowd: Onlookers[str] = Onlookers({}.get)

    class Interest:
        """As a gateway's shell has it."""

        waits = property(lambda self: crowd.waits)
        leaving = staticmethod(lambda: crowd.wanted.leaving())
        again = staticmethod(lambda: crowd.wanted.again())

    half = Half[Socket](NAME, Interest())
    assert not half.needed
    crowd.enter("g.1", "user_1", ())
    assert half.needed and half.expects, "somebody waits for an answer"
    half.pending.push(opened(1), 0.0)
    attach, inputs = half.attach(1)
    assert isinstance(attach, link.Attach)
    wants = Wants(1, True, ["user_1"], [])
    assert inputs == link.Inputs(NAME, [opened(1)], 1, wants)
    assert half.queued() is None
    crowd.watch("g.1", ["user_2"])
    half.pending.push(said(2), 0.0)
    half.pending.queue(said(2))
    wants = Wants(2, False, ["user_2"], [])
    assert half.queued() == link.Inputs(NAME, [said(2)], 1, wants)
    crowd.watch("g.1", ["user_3"])
    assert half.queued() == link.Inputs(NAME, [], 1, Wants(3, False, ["user_3"], []))
    half.pending.cover(2)
    news = News(False, 0, 3, True, [], [], [])
    crowd.told(news)
    assert not half.expects
