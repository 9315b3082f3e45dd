"""Inputs until they are covered: kept, paid for, sent, given up; without a loop."""

from cfmessenger.chat.effects import Attachment
from cfmessenger.link import messages as link
from cfmessenger.link.uncovered import (
    FRAME_COST,
    OBJECT_BUDGET,
    SOCKET_BUDGET,
    Echo,
    Uncovered,
)


class Payer:
    def __init__(self) -> None:
        self.uncovered = 0
        self.full = False


def attachment(conn: str, name: str = "Tom", words_at: int = 0) -> Attachment:
    return Attachment(conn, "user_1", name, "online", words_at=words_at)


def opened(n: int, conn: str = "g.1") -> link.Opened:
    return link.Opened(n, attachment(conn), None, False)


def said(n: int, conn: str = "g.1", seen: int | None = 0) -> link.Said:
    return link.Said(n, conn, b"{}", seen)


def holding(*inputs: link.Input, at: float = 0.0) -> Uncovered:
    uncovered = Uncovered()
    for each in inputs:
        uncovered.push(each, at)
    return uncovered


def left(uncovered: Uncovered) -> list[int]:
    return [pending.n for pending in uncovered]


def test_what_is_covered_goes_in_order_and_the_rest_stays() -> None:
    uncovered = holding(said(1), said(3), said(7))
    assert [each.n for each in uncovered.cover(3)] == [1, 3]
    assert left(uncovered) == [7] and uncovered.covered == 3
    assert uncovered.cover(2) == [] and uncovered.covered == 3


def test_what_is_queued_leaves_together_and_once() -> None:
    uncovered = holding(said(1), said(2))
    assert uncovered.queue(said(1))
    assert not uncovered.queue(said(2))  # it leaves with the first
    assert uncovered.leaving() == [said(1), said(2)] and uncovered.sent == 2
    assert uncovered.leaving() == []


def test_an_attach_sends_everything_and_nothing_twice() -> None:
    uncovered = holding(opened(1), said(2))
    uncovered.queue(said(2))
    assert uncovered.opened == {"g.1"}
    assert uncovered.again() == [opened(1), said(2)]
    assert uncovered.leaving() == []


def test_a_notification_that_is_given_once_keeps_its_number_alone() -> None:
    uncovered = holding(link.Notified(1, b"once"), link.Notified(2, b"again"))
    next(iter(uncovered)).once = True
    assert uncovered.again() == [link.Notified(1, b"once"), link.Notified(2, b"again")]
    assert uncovered.again() == [link.GivenBefore(1), link.Notified(2, b"again")]


def test_who_spends_too_much_is_full_until_most_of_it_is_covered() -> None:
    uncovered, payer = Uncovered(), Payer()
    frame = b"x" * (SOCKET_BUDGET // 8 - FRAME_COST)
    for _ in range(7):
        uncovered.pay(payer, frame)
    assert not payer.full
    uncovered.pay(payer, frame)
    assert payer.full
    goes_on = [uncovered.pay_back(payer, frame) for _ in range(8)]
    assert goes_on == 5 * [False] + [True] + 2 * [False] and not payer.full
    assert uncovered.size == payer.uncovered == 0


def test_an_object_over_its_budget_lets_nobody_go_on_who_owes_anything() -> None:
    uncovered, crowd, payer = Uncovered(), Payer(), Payer()
    uncovered.pay(crowd, b"x" * (OBJECT_BUDGET + FRAME_COST))
    uncovered.pay(payer, b"a")
    uncovered.pay(payer, b"b")
    assert payer.full
    assert not uncovered.pay_back(payer, b"a") and payer.full
    assert uncovered.pay_back(payer, b"b") and not payer.full


def test_the_charge_of_a_socket_that_is_gone_is_given_back_too() -> None:
    uncovered, payer = Uncovered(), Payer()
    uncovered.pay(payer, b"a")
    assert not uncovered.pay_back(None, b"a")
    assert uncovered.size == 0


def test_of_what_is_late_frames_are_asked_about_and_the_rest_is_lost() -> None:
    uncovered = holding(
        opened(1), said(2), said(3, "g.2"), link.Notified(4, b"news"), at=1.0
    )
    uncovered.push(said(5), at=9.0)
    expired = uncovered.expire(9.0, 1.0, {"g.1"})
    assert [each.n for each in expired.late] == [2]
    assert [each.n for each in expired.lost] == [3, 4]  # nobody waits for 3 any more
    assert left(uncovered) == [1, 2, 5]
    assert uncovered.expire(9.5, 1.0, {"g.1"}) == ([], [])
    again = uncovered.expire(10.5, 1.0, {"g.1"})  # what is pending still
    assert [each.n for each in again.late] == [2, 5]


def test_who_comes_and_who_goes_never_expires() -> None:
    uncovered = holding(opened(1), link.Closed(2, "g.1"))
    assert uncovered.expire(9e9, 1.0, set()) == ([], [])
    assert left(uncovered) == [1, 2]


def test_a_socket_that_was_never_sent_is_forgotten_whole() -> None:
    uncovered = holding(said(1, "g.2"), opened(2), said(3))
    forgotten = uncovered.forget_unsent("g.1")
    assert forgotten is not None and [each.n for each in forgotten] == [2, 3]
    assert left(uncovered) == [1]


def test_a_socket_that_was_sent_must_be_closed() -> None:
    uncovered = holding(opened(1))
    uncovered.queue(opened(1))
    uncovered.leaving()
    uncovered.push(said(2), 0.0)
    assert uncovered.forget_unsent("g.1") is None
    assert left(uncovered) == [1, 2]


def test_an_echo_is_owed_unless_the_log_has_given_it() -> None:
    uncovered = holding(said(5))
    echo = Echo("g.1", 3)
    assert uncovered.owed(echo)
    uncovered.answered(5, echo)
    assert uncovered.owed(Echo("g.2", 3))
    assert not uncovered.owed(echo)
    assert uncovered.owed(echo)  # it was given once


def test_an_answer_of_the_log_counts_until_its_input_is_covered_or_said_again() -> None:
    echo = Echo("g.1", 3)
    uncovered = holding(said(5))
    uncovered.answered(5, echo)
    uncovered.cover(4)
    assert not uncovered.owed(echo)
    uncovered.answered(5, echo)
    uncovered.cover(5)
    assert uncovered.owed(echo)
    uncovered.answered(6, echo)
    uncovered.again()
    assert uncovered.owed(echo)


def test_what_is_said_on_the_way_in_counts_as_said_after_what_was_shown() -> None:
    uncovered, payer = Uncovered(), Payer()
    for entry in (said(1, seen=None), said(2, seen=9), said(3, "g.2", seen=None)):
        uncovered.pay(payer, entry.data)
        uncovered.push(entry, 0.0)
    uncovered.entered("g.1", 7)
    assert uncovered.again() == [
        said(1, seen=7),
        said(2, seen=9),
        said(3, "g.2", seen=None),
    ]


def test_newer_words_reach_an_opened_that_waits() -> None:
    uncovered = holding(opened(1), opened(2, "g.2"))
    uncovered.change(attachment("g.1", "Thomas", words_at=2))
    names = [
        each.input.attachment.display_name
        for each in uncovered
        if isinstance(each.input, link.Opened)
    ]
    assert names == ["Thomas", "Tom"]


def test_a_new_name_of_the_gateway_is_in_every_input() -> None:
    uncovered = holding(opened(1), said(2), link.Closed(3, "g.1"), said(4, "g.2"))
    uncovered.rename({"g.1": "h.1", "g.2": "h.2"})
    assert uncovered.again() == [
        opened(1, "h.1"),
        said(2, "h.1"),
        link.Closed(3, "h.1"),
        said(4, "h.2"),
    ]


def test_it_is_taken_by_number_if_it_is_still_there() -> None:
    uncovered = holding(said(1), said(2))
    assert [each.n for each in uncovered.take({2, 9})] == [2]
    assert left(uncovered) == [1] and len(uncovered) == 1
