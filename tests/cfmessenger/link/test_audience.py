"""Who is in, on the way and behind: a gateway's sockets, without gateway or loop."""

from typing import NamedTuple

import pytest

from cfmessenger.chat.effects import Attachment
from cfmessenger.link.audience import Arrival, Audience, Phase


class Socket(NamedTuple):
    conn: str


A, B = Socket("g.1"), Socket("g.2")


def attachment(conn: str, name: str = "Tom", words_at: int = 0) -> Attachment:
    return Attachment(conn, "user_1", name, "online", words_at=words_at)


def inside(*sockets: Socket, seq: int = 0) -> Audience[Socket]:
    """These are known and in, and have seen everything up to `seq`."""
    audience = Audience[Socket]()
    for socket in sockets:
        audience.enter(socket, None)
        audience.known(attachment(socket.conn))
        assert audience.let_in(socket.conn)
    audience.shown(seq)
    return audience


def test_a_socket_is_in_from_when_it_is_let_in_until_it_leaves() -> None:
    audience = Audience[Socket]()
    audience.enter(A, 3)
    assert A.conn in audience and list(audience) == [A]
    assert audience.phase(A.conn) is Phase.ENTERING and not audience.members
    assert audience.let_in(A.conn)
    assert audience.phase(A.conn) is Phase.IN and audience.members == {A.conn: A}
    assert not audience.let_in(A.conn)  # it is no news
    assert audience.leave(A.conn) and not audience.leave(A.conn)
    assert not audience and not audience.members and audience.get(A.conn) is None


def test_nobody_is_let_in_who_has_left() -> None:
    audience = Audience[Socket]()
    audience.enter(A, None)
    audience.leave(A.conn)
    assert not audience.let_in(A.conn) and not audience.members


def test_what_it_has_seen_is_its_since_until_it_is_in() -> None:
    audience = inside(B, seq=9)
    audience.enter(A, None)
    assert audience.seen_by(A.conn) is None
    audience.let_in(A.conn)
    assert audience.seen_by(A.conn) == 9
    audience.enter(Socket("g.3"), 4)
    assert audience.seen_by("g.3") == 4


def test_what_was_shown_never_falls() -> None:
    audience = inside(A, seq=5)
    audience.shown(3)
    assert audience.seq == 5


def test_who_falls_behind_gets_nothing_beyond_what_it_had_until_it_is_in_again() -> (
    None
):
    audience = inside(B, seq=20)
    audience.enter(A, 7)
    audience.falls_behind(A.conn, 7)
    assert audience.phase(A.conn) is Phase.PAGING
    assert audience.in_turn(A.conn, 7) and not audience.in_turn(A.conn, 8)
    assert not audience.let_in(A.conn)  # it has not paged yet
    audience.enter(A, 20)
    assert audience.phase(A.conn) is Phase.RETURNING
    assert audience.seen_by(A.conn) == 20 and not audience.in_turn(A.conn, 8)
    assert audience.let_in(A.conn) and audience.in_turn(A.conn, 21)


def test_who_falls_behind_while_it_is_in_is_in_no_more() -> None:
    audience = inside(A, B, seq=5)
    audience.falls_behind(A.conn, 5)
    assert audience.members == {B.conn: B}


def test_an_attach_says_who_is_known_and_what_they_have_seen() -> None:
    audience = inside(A, seq=5)
    audience.enter(B, 1)
    assert audience.arrive(()) == Arrival(5, [attachment(A.conn)])


def test_an_attach_of_nobody_who_is_in_has_seen_nothing() -> None:
    audience = Audience[Socket]()
    audience.enter(A, 3)
    assert audience.arrive([A.conn]) == Arrival(None, [])


@pytest.mark.parametrize(
    "opened", [[A.conn], []], ids=["its Opened follows", "it pages"]
)
def test_who_enters_after_an_attach_is_not_let_in_by_it(opened: list[str]) -> None:
    audience = Audience[Socket]()
    audience.enter(A, 3)
    audience.known(attachment(A.conn))
    if not opened:
        audience.falls_behind(A.conn, 3)
    audience.arrive(opened)
    assert not audience.let_in(A.conn)  # the answer to the attach
    audience.enter(A, 9)
    assert audience.let_in(A.conn)  # that to its own Opened


def test_a_new_attach_forgets_whom_the_last_one_would_have_let_in() -> None:
    audience = Audience[Socket]()
    audience.enter(A, 3)
    audience.known(attachment(A.conn))
    audience.arrive([A.conn])
    audience.arrive(())
    assert audience.let_in(A.conn)


def test_the_object_knows_a_socket_until_its_end_is_covered() -> None:
    audience = inside(A)
    audience.leave(A.conn)
    assert list(audience.held) == [A.conn]
    audience.unknown(A.conn)
    assert not audience.held


def test_who_has_left_is_not_known_anew() -> None:
    audience = Audience[Socket]()
    audience.known(attachment(A.conn))
    audience.keep(attachment(A.conn))
    audience.change(attachment(A.conn))
    assert not audience.held


def test_newer_words_stay_whoever_brings_the_older_ones() -> None:
    audience = inside(A)
    audience.change(attachment(A.conn, "Thomas", words_at=2))
    audience.known(attachment(A.conn, "Tommy", words_at=1))
    audience.keep(attachment(A.conn, "Tommy", words_at=1))
    assert audience.held[A.conn].display_name == "Thomas"
    audience.keep(attachment(A.conn, "Tim", words_at=3))
    assert audience.held[A.conn].display_name == "Tim"


def test_somebody_is_typing_as_long_as_an_attachment_says_so() -> None:
    audience = inside(A)
    assert not audience.typing
    audience.keep(Attachment(A.conn, "user_1", "Tom", "online", typing=True))
    assert audience.typing
    audience.keep(attachment(A.conn))
    assert not audience.typing


def test_a_new_name_of_the_gateway_is_that_of_all_its_connections() -> None:
    class Renamed:
        conn = "g.1"

    socket = Renamed()
    audience = Audience[Renamed]()
    audience.enter(socket, None)
    audience.known(attachment("g.1"))
    audience.let_in("g.1")
    audience.shown(4)
    audience.enter(gone := Renamed(), None)
    audience.leave(gone.conn)
    audience.enter(socket, None)
    audience.let_in("g.1")
    socket.conn = "h.1"
    audience.rename({"g.1": "h.1"})
    assert audience.members == {"h.1": socket}
    assert audience.held == {"h.1": attachment("h.1")}
    assert audience.get("h.1") is socket and audience.get("g.1") is None
    assert audience.arrive(()) == Arrival(4, [attachment("h.1")])
