"""When a wake is tried, and what is said between two tries."""

from __future__ import annotations

import asyncio
import logging

import pytest

from actors.wake_proof import LOOK_EVERY_S, WAKE_EVERY_S, WakeProof
from cfmessenger.errors import Unavailable


class World:
    """What there is to look at and to try, and how often that was done."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looked = self.tried = 0
        self.broken = self.dead = False
        self.proof = WakeProof(self.look, self.wake, lambda: self.now)

    async def look(self) -> None:
        self.looked += 1
        if self.broken:
            raise Unavailable(message="No connection.")

    async def wake(self) -> None:
        self.tried += 1
        if self.dead:
            raise Unavailable(message="No actor.")

    async def asked(self, after_s: float = 0.0) -> str:
        """What whoever asks then is told once it was found out; empty: they wake."""
        self.now += after_s
        for _ in range(2):
            try:
                self.proof.check()
                said = ""
            except Unavailable as problem:
                said = problem.message
            if self.proof._trying is not None:
                await asyncio.wait({self.proof._trying})
        return said


@pytest.fixture
def world() -> World:
    return World()


async def test_nothing_is_believed_before_the_first_wake(world: World) -> None:
    with pytest.raises(Unavailable, match="woken yet"):
        world.proof.check()
    assert await world.asked() == ""
    assert (world.looked, world.tried) == (1, 1)


async def test_who_asks_often_does_not_make_it_look_often(world: World) -> None:
    for _ in range(100):
        await world.asked(LOOK_EVERY_S / 10)
    assert world.looked <= 11 and world.tried == 1


async def test_an_idle_node_tries_a_wake_rarely(world: World) -> None:
    for _ in range(int(3600 / LOOK_EVERY_S)):
        assert await world.asked(LOOK_EVERY_S) == ""
    assert world.tried == pytest.approx(3600 / WAKE_EVERY_S, abs=2)


async def test_rooms_that_wake_are_proof(world: World) -> None:
    await world.asked()
    for _ in range(100):
        world.proof.woke()
        assert await world.asked(LOOK_EVERY_S) == ""
    assert world.tried == 1


async def test_a_socket_that_is_gone_is_said_at_the_next_look(world: World) -> None:
    await world.asked()
    world.broken = True
    assert await world.asked(LOOK_EVERY_S) == "No connection."
    world.proof.woke()  # by a worker that had all its connections before
    assert await world.asked(LOOK_EVERY_S) == "No connection."
    world.broken = False
    assert await world.asked(LOOK_EVERY_S) == ""


async def test_after_a_doubt_only_a_wake_helps(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.asked()
    world.dead = True
    assert await world.asked(LOOK_EVERY_S) == ""  # nobody has tried
    world.proof.failed()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await world.asked(LOOK_EVERY_S) == "No actor."
    assert world.tried == 4
    assert caplog.text.count("cannot wake") == 1, "said once, not at each try"
    world.dead = False
    assert await world.asked(LOOK_EVERY_S) == ""
    assert world.tried == 5


async def test_a_bug_in_the_try_is_no_proof(world: World) -> None:
    await world.asked()

    async def wrong() -> None:
        raise KeyError

    world.proof = WakeProof(wrong, world.wake, lambda: world.now)
    assert "KeyError" in await world.asked()
