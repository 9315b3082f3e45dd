"""The greeting of a link: who is believed, which version is spoken, what is said."""

import hmac

import msgspec
import pytest

from cfmessenger.link import messages as link
from cfmessenger.link.greeting import (
    ACTOR,
    GATEWAY,
    MOST_WORDS,
    NONCE_BYTES,
    OURS,
    Answering,
    Asking,
    Refusal,
    Said,
    Versions,
    common,
    proof,
)

KEY = "5ec2e7" * 10
OURS_, THEIRS = b"a" * NONCE_BYTES, b"b" * NONCE_BYTES


def asking(key: str = KEY, speaks: int = link.VERSION, secure: bool = False) -> Asking:
    return Asking(key, "gA", OURS_, speaks, secure)


def answering(key: str = KEY, secure: bool = False) -> Answering:
    return Answering(key, THEIRS, 7, secure)


@pytest.mark.parametrize("secure", [False, True])
def test_both_prove_that_they_know_the_key_and_neither_says_it(secure: bool) -> None:
    gateway, actor = asking(secure=secure), answering(secure=secure)
    welcome = actor.on_hello(gateway.hello)
    assert actor.gateway == "", "it owes a proof"
    shown = gateway.welcomed(welcome)
    assert shown is not None
    actor.on_proof(shown)
    assert (actor.gateway, actor.version) == ("gA", 6)
    for message in (gateway.hello, welcome, shown):
        assert KEY.encode() not in link.frame(message)


def test_who_does_not_know_the_key_learns_nothing_by_which_to_know_it() -> None:
    with pytest.raises(Refusal, match="it does not know the key"):
        asking(key="other").welcomed(answering().on_hello(asking().hello))
    actor, gateway = answering(), asking()
    welcome = actor.on_hello(gateway.hello)
    # What it was shown itself, and what another part would show.
    for shown in (welcome.proof, b"", b"\0" * 32):
        actor._said = actor._said or _said()
        with pytest.raises(Refusal, match="it does not know the key"):
            actor.on_proof(link.Proof(shown))
    assert actor.gateway == ""


def _said() -> Said:
    return Said(OURS, 6, "gA", (OURS_, THEIRS))


def test_a_proof_is_of_one_greeting_alone() -> None:
    said = _said()
    shown = proof(KEY, GATEWAY, said)
    assert shown == hmac.digest(
        KEY.encode(), msgspec.msgpack.encode((GATEWAY, *said)), "sha256"
    )
    others = [
        said._replace(offered=Versions(6, 6)),
        said._replace(version=5),
        said._replace(caller="gB"),
        said._replace(nonces=(THEIRS, OURS_)),
    ]
    assert (
        len({shown, proof(KEY, ACTOR, said)} | {proof(KEY, GATEWAY, o) for o in others})
        == 6
    )


def test_the_newest_version_of_both_is_spoken_and_else_both_are_named() -> None:
    assert common(Versions(6, 7)) == 6
    assert common(Versions(5, 5)) == 5
    assert common(Versions(6, 9), Versions(7, 8)) == 8
    for theirs, named in (
        (Versions(7, 8), "versions 7 to 8"),
        (Versions(1, 4), "versions 1 to 4"),
    ):
        with pytest.raises(Refusal) as caught:
            common(theirs)
        says = f"it speaks {named} of the link, this end versions 5 to 6"
        assert str(caught.value) == says


def test_a_gateway_of_the_next_release_is_answered_in_this_ones_version() -> None:
    hello = link.Hello(7, "", "gA", 6, OURS_)
    welcome = answering().on_hello(hello)
    assert welcome.version == 6
    said = Said(Versions(6, 7), 6, "gA", (OURS_, THEIRS))
    assert welcome.proof == proof(KEY, ACTOR, said)


def test_an_old_end_sends_its_key_and_is_sent_it() -> None:
    gateway, actor = asking(speaks=5), answering()
    assert gateway.hello == link.Hello(5, KEY, "gA")
    assert actor.on_hello(gateway.hello) == link.Welcome(5, 7)
    assert (actor.gateway, actor.version) == ("gA", 5)
    assert gateway.welcomed(link.Welcome(5, 7)) is None
    with pytest.raises(Refusal, match="it does not know the key"):
        answering("other").on_hello(gateway.hello)


def test_with_tls_nobody_sends_a_key_and_nobody_is_sent_one() -> None:
    with pytest.raises(Refusal, match="proves no key"):
        asking(speaks=5, secure=True)
    with pytest.raises(Refusal, match="it sends its key, and TLS is configured"):
        answering(secure=True).on_hello(link.Hello(5, KEY, "gA"))


def test_an_actor_cannot_be_talked_down_to_a_version_without_proofs() -> None:
    gateway = asking()
    for welcome in (
        link.Welcome(5, 7),
        link.Welcome(6, 7),
        link.Welcome(6, 7, THEIRS, b""),
        link.Welcome(7, 7, THEIRS, b""),
    ):
        with pytest.raises(Refusal):
            gateway.welcomed(welcome)


def test_the_release_before_reads_what_this_one_says_to_it() -> None:
    class Hello5(msgspec.Struct, array_like=True, frozen=True, tag=0):
        version: int
        key: str
        gateway: str

    class Welcome5(msgspec.Struct, array_like=True, frozen=True, tag=0):
        version: int
        pid: int

    hello = msgspec.msgpack.decode(link.frame(asking(speaks=5).hello)[4:], type=Hello5)
    assert hello == Hello5(5, KEY, "gA")
    newer = msgspec.msgpack.decode(link.frame(asking().hello)[4:], type=Hello5)
    assert (newer.version, newer.key) == (6, ""), "it says which, and is refused"
    welcome = answering().on_hello(link.Hello(5, KEY, "gA"))
    assert msgspec.msgpack.decode(link.frame(welcome)[4:], type=Welcome5) == Welcome5(
        5, 7
    )


def test_the_reason_of_who_has_proved_nothing_is_cut() -> None:
    refusal = Refusal(f"it refuses us: {'x' * 10_000_000}")
    assert len(str(refusal)) == len(refusal.kind) == MOST_WORDS
