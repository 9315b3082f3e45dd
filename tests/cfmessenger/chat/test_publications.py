"""Whom guests show: each its own, and nobody another's."""

from cfmessenger.chat.effects import Published
from cfmessenger.chat.publications import Publications
from cfmessenger.wire.protocol import Participant

ANN, BEN = (Participant(f"user_{name}", name, "online") for name in ("ann", "ben"))


def published() -> Publications:
    those = Publications()
    those.publish(Published("one", (ANN,)))
    those.publish(Published("two", (BEN,)))
    return those


def test_a_guest_replaces_what_it_published_and_nothing_else() -> None:
    those = published()
    assert those.publish(Published("one", ())) == [ANN.id]
    assert (those.find(ANN.id), those.find(BEN.id)) == (None, BEN)
    assert those.ids == [BEN.id]


def test_the_same_again_is_no_change() -> None:
    assert published().publish(Published("two", (BEN,))) == []


def test_of_a_guest_that_is_no_more_nobody_is_left() -> None:
    those = Publications()
    those.restore(published().snapshot(), ["two", "three"])
    assert (those.find(ANN.id), those.find(BEN.id)) == (None, BEN)
