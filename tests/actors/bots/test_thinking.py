"""How an answer comes about: the switch, the indicator, the pace, and the bounds."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.bots import thinking as thinking_module
from actors.bots.thinking import Bots, Mind, Thinking
from cfmessenger.accounts.users import Directory, Profile
from cfmessenger.bots.effects import Think
from cfmessenger.bots.inbox import Answered, decode
from cfmessenger.bots.talk import Answer, Question
from cfmessenger.chat.effects import Effect, Notify, Types, decode_notification
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from tests import patience
from tests.patience import Stopwatch

PERSONAS = Directory.load().bots
BOT = PERSONAS[0]
NEVER = TimeoutError("for ever")


class Slow:
    """A replier that says what it was asked, when it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.asked: list[Question] = []
        self.cancelled = 0
        self.closed = False
        self.news = asyncio.Event()
        self.composing: Callable[[], None] = lambda: None
        self.text: str | None = None
        self.problem: Exception | None = None

    async def reply(
        self, persona: Profile, question: Question, composing: Callable[[], None]
    ) -> Answer:
        self.asked.append(question)
        self.composing = composing
        self.news.set()
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.problem is not None:
            raise self.problem
        return Answer(self.text or question.text, tokens=7)

    async def aclose(self) -> None:
        self.closed = True

    async def until_asked(self, count: int) -> None:
        async with patience.within(5):
            while len(self.asked) < count:
                self.news.clear()
                await self.news.wait()


class Desk:
    """What an activation would do with it, written down."""

    def __init__(self) -> None:
        self.replier = Slow()
        self.loaded = 0
        self.enabled: list[bool | Exception] = []
        self.clock = Clock()
        self.typing: list[tuple[str, bool]] = []
        self.answers: list[tuple[int, Answer]] = []
        self.news = asyncio.Event()
        self.mind = Mind(Bots(PERSONAS), self._load)
        self.routes: list[tuple[str, str]] = []
        self.thinking = Thinking(self.mind, self)

    def _load(self, bots: Bots) -> Slow:
        assert bots.personas == PERSONAS
        self.loaded += 1
        return self.replier

    async def ask(self, *command: object) -> Any:
        assert command == ("GET", keys.BOT_ENABLED)
        said = self.enabled.pop(0) if self.enabled else True
        if said is NEVER:
            await asyncio.Event().wait()
        if isinstance(said, Exception):
            raise said
        return None if said else b"0"

    def route(self, target: str, gateway: str) -> None:
        self.routes.append((target, gateway))

    def show(self, effect: Effect) -> None:
        assert isinstance(effect, Notify)
        told = decode_notification(effect.payload)
        assert isinstance(told, Types)
        assert (told.user_id, told.display_name) == (BOT.id, BOT.display_name)
        self.typing.append((effect.target, told.is_typing))

    def tell(self, notification: bytes) -> None:
        told = decode(notification)
        assert isinstance(told, Answered)
        assert self.thinking.busy or told.answer.outcome == "overloaded"
        self.answers.append((told.seq, told.answer))
        self.news.set()

    def put(
        self,
        seq: int = 1,
        text: str = "hello",
        bot: str = BOT.id,
        excuse: Answer | None = None,
    ) -> None:
        asked_at = self.clock.now()
        question = Question("general", seq, bot, "user_1", "Al", text, asked_at)
        self.thinking.take(Think(question, excuse), "g")

    async def until_answered(self, count: int = 1) -> None:
        async with patience.within(10):
            while len(self.answers) < count:
                self.news.clear()
                await self.news.wait()

    @property
    def outcomes(self) -> list[str]:
        return [answer.outcome for _, answer in self.answers]


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pace, for tests that are about something else."""
    monkeypatch.setattr(thinking_module, "FASTEST_MS", 0)
    monkeypatch.setattr(thinking_module, "SLOWEST_MS", 0)


async def test_a_question_is_answered_with_the_indicator_on(brisk: None) -> None:
    desk = Desk()
    assert not desk.loaded, "not before somebody asks"
    desk.put(3, "what is your name?")
    await desk.replier.until_asked(1)
    assert desk.typing == [("room:general", True)]
    assert desk.routes == [("room:general", "g")], "whoever asked carries the answer"
    assert desk.thinking.busy
    desk.replier.may.set()
    await desk.until_answered()
    assert desk.answers == [(3, Answer("what is your name?", tokens=7))]
    await asyncio.sleep(0)
    assert not desk.thinking.busy
    assert desk.typing == [("room:general", True)], "the answer itself turns it off"
    desk.put(4)
    await desk.until_answered(2)
    assert desk.loaded == 1
    await desk.mind.aclose()
    assert desk.replier.closed


@pytest.mark.parametrize(
    ("characters", "shortest", "longest"), [(5, 0.1, 0.25), (10, 0.2, 0.35)]
)
async def test_it_takes_as_long_as_a_person_would(
    monkeypatch: pytest.MonkeyPatch, characters: int, shortest: float, longest: float
) -> None:
    monkeypatch.setattr(thinking_module, "FASTEST_MS", 100)
    monkeypatch.setattr(thinking_module, "MS_A_CHARACTER", 20)
    desk = Desk()
    desk.replier.may.set()
    began = Stopwatch()
    desk.put(text="x" * characters)
    await desk.until_answered()
    assert began.wall >= shortest - 0.005 and began.seconds < longest


@pytest.mark.parametrize(
    ("characters", "age_ms", "expected"),
    [
        (1, 0, 1.0),
        (50, 0, 2.0),
        (2048, 0, 4.0),
        (50, 1500, 0.5),
        (50, 9000, -7.0),
        (50, -5000, 2.0),
    ],
)
async def test_the_pace_counts_from_the_question(
    characters: int, age_ms: int, expected: float
) -> None:
    desk = Desk()
    asked_at = desk.clock.now() - age_ms
    question = Question("general", 1, BOT.id, "user_1", "Al", "?", asked_at)
    left = desk.thinking._pause_s(question, Answer("x" * characters))
    assert left == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("pieces", [20, 0], ids=["text arrives", "silence"])
async def test_the_indicator_is_refreshed_four_times_at_most(
    monkeypatch: pytest.MonkeyPatch, brisk: None, pieces: int
) -> None:
    monkeypatch.setattr(thinking_module, "REFRESH_S", 0.15)
    desk = Desk()
    desk.put()
    await desk.replier.until_asked(1)
    for _ in range(pieces):
        desk.replier.composing()
    assert len(desk.typing) == 1, "it is on anyway"
    for _ in range(8):
        await asyncio.sleep(0.16)
        for _ in range(pieces):
            desk.replier.composing()
    assert desk.typing == [("room:general", True)] * 5
    desk.replier.may.set()
    await desk.until_answered()


@pytest.mark.parametrize(
    "said", [False, Unavailable(), TimeoutError()], ids=["off", "away", "late"]
)
async def test_switched_off_nobody_thinks(brisk: None, said: bool | Exception) -> None:
    desk = Desk()
    desk.enabled = [said]
    desk.put()
    await desk.until_answered()
    assert desk.answers == [(1, Answer("", outcome="off"))]
    assert (desk.replier.asked, desk.typing, desk.loaded) == ([], [], 0)


async def test_an_excuse_costs_nothing_and_is_not_said_when_switched_off(
    brisk: None,
) -> None:
    desk = Desk()
    excuse = Answer("I am off duty.", outcome="off_duty")
    desk.put(1, excuse=excuse)
    await desk.until_answered()
    assert desk.typing == [("room:general", True)]
    desk.enabled = [False]
    desk.put(2, excuse=excuse)
    await desk.until_answered(2)
    assert desk.answers == [(1, excuse), (2, Answer("", outcome="off"))]
    assert (desk.replier.asked, desk.loaded) == ([], 0), "no model is asked"


async def test_switched_off_meanwhile_nothing_is_said(brisk: None) -> None:
    desk = Desk()
    desk.enabled = [True, False]
    desk.replier.may.set()
    desk.put()
    await desk.until_answered()
    assert desk.outcomes == ["off"]
    assert desk.typing == [("room:general", True), ("room:general", False)]


async def test_a_switch_that_does_not_answer_is_off(
    monkeypatch: pytest.MonkeyPatch, brisk: None
) -> None:
    monkeypatch.setattr(thinking_module, "SWITCH_TIMEOUT_S", 0.02)
    desk = Desk()
    desk.enabled = [NEVER]
    desk.put()
    await desk.until_answered()
    assert desk.outcomes == ["off"]


async def test_only_so_many_at_once_and_so_many_behind(
    monkeypatch: pytest.MonkeyPatch, brisk: None
) -> None:
    monkeypatch.setattr(thinking_module, "AT_ONCE", 3)
    monkeypatch.setattr(thinking_module, "WAITING", 2)
    desk = Desk()
    for seq in range(1, 8):
        desk.put(seq)
    assert desk.answers == [(n, Answer("", outcome="overloaded")) for n in (6, 7)]
    await desk.replier.until_asked(3)
    await asyncio.sleep(0.01)
    assert len(desk.replier.asked) == 3
    desk.replier.may.set()
    await desk.until_answered(7)
    assert sorted(seq for seq, _ in desk.answers) == list(range(1, 8))
    assert desk.outcomes.count("ok") == 5
    desk.put(8)
    await desk.until_answered(8)
    assert desk.outcomes[-1] == "ok", "there is room again"


async def test_cancelled_nobody_is_told_and_nothing_goes_on(brisk: None) -> None:
    desk = Desk()
    for seq in range(3):
        desk.put(seq)
    await desk.replier.until_asked(3)
    desk.thinking.cancel()
    assert not desk.thinking.busy
    await asyncio.sleep(0.01)
    desk.replier.may.set()
    await asyncio.sleep(0.01)
    assert (desk.replier.cancelled, desk.answers) == (3, [])


async def test_a_bug_of_a_replier_leaves_no_room_busy(
    brisk: None, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk()
    desk.replier.may.set()
    desk.replier.problem = RuntimeError("a bug")
    desk.put(text="my secret")
    await desk.until_answered()
    assert desk.outcomes == ["failed"]
    assert desk.typing[-1] == ("room:general", False)
    assert "a bug" in caplog.text and "my secret" not in caplog.text


async def test_a_bot_that_left_the_list_says_nothing(brisk: None) -> None:
    desk = Desk()
    desk.put(bot="bot_who_left")
    await desk.until_answered()
    assert desk.outcomes == ["gone"]
