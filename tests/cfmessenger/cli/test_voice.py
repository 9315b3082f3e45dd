"""A child's pipe to `up`: ready, alive, and why it ends."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from cfmessenger.cli.voice import MAX_LINE, VOICE_FD, Ear, Voice
from tests import patience


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    made = Ear()
    yield made
    made.close()
    os.close(made.theirs)


@pytest.fixture
def voice(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> Voice:
    monkeypatch.setenv(VOICE_FD, str(ear.theirs))
    return Voice()


async def test_one_that_lives_is_ready_and_heard(ear: Ear, voice: Voice) -> None:
    assert ear.heard()  # who never says that it lives is not expected to
    living = asyncio.create_task(voice.live())
    async with patience.within(10):
        await ear.ready()
    assert ear.heard()
    assert not ear.heard()  # not again before its next beat
    living.cancel()


async def test_the_reason_is_one_line_and_bounded(ear: Ear, voice: Voice) -> None:
    assert voice.failed("CFM_X: no\nsuch thing " + "x" * 2 * MAX_LINE)
    ear.close()
    assert ear.why.startswith("CFM_X: no such thing xxx")
    assert len(ear.why) < MAX_LINE


async def test_a_pipe_that_nobody_reads_stops_nobody(ear: Ear, voice: Voice) -> None:
    for _ in range(100):
        voice.failed("x" * MAX_LINE)  # without letting the reader run
    assert not voice.failed("y")
    ear.close()
    assert set(ear.why) == {"x"}


async def test_without_a_supervisor_it_is_mute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VOICE_FD, raising=False)
    assert not Voice().failed("nobody hears this")


async def test_what_was_started_from_the_child_has_no_voice(
    ear: Ear, voice: Voice
) -> None:
    # Else the supervisor would take another's life for the child's.
    assert not os.get_inheritable(ear.theirs)
