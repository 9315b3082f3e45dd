"""The director: rotation, budget and one answer to a question, whatever happens."""

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cfmessenger.bots.director import Budget, Director, Persona
from cfmessenger.bots.effects import Active, Count, Spent, Think
from cfmessenger.bots.floor import LINE, THINKING_MS
from cfmessenger.bots.inbox import Answered, Asked, RotationDue
from cfmessenger.bots.rotation import EXCUSES
from cfmessenger.bots.talk import Answer, Question
from cfmessenger.chat import effects as fx
from cfmessenger.chat.effects import decode_notification, encode_notification
from tests.effort import tries

HOUR, DAY = 3_600_000, 86_400_000
START = 20_000 * DAY
BOTS = [Persona(f"bot_{n}", f"Bot {n}") for n in range(9)]
ALL = Budget(active=9)


class Stage:
    """A director with its log, and what it wanted done."""

    def __init__(self, budget: Budget = ALL, bots: list[Persona] = BOTS) -> None:
        self.bots, self.budget = bots, budget
        self.director = Director(bots, budget)
        self.log: list[tuple[int, bytes]] = []
        self.now = START
        self.thinking: list[Question] = []
        self.excuses: list[tuple[Question, Answer]] = []
        self.said: list[tuple[str, fx.Says]] = []
        self.counts: Counter[str] = Counter()
        self.online: tuple[str, ...] = ()
        self.tell(RotationDue())

    def tell(self, told: Any) -> list[fx.Effect]:
        return self.take(self.director.notify(self.now, encode_notification(told)))

    def take(self, effects: list[fx.Effect]) -> list[fx.Effect]:
        for effect in effects:
            if isinstance(effect, fx.Append):
                self.log.append((effect.seq, effect.event))
            elif isinstance(effect, Think):
                if effect.excuse is None:
                    self.thinking.append(effect.question)
                else:
                    self.excuses.append((effect.question, effect.excuse))
            elif isinstance(effect, Count):
                self.counts[effect.figure] += effect.amount
            elif isinstance(effect, Active):
                self.online = effect.bot_ids
            elif isinstance(effect, fx.Notify):
                told = decode_notification(effect.payload)
                if isinstance(told, fx.Says):
                    self.said.append((effect.target, told))
        return effects

    def ask(self, seq: int, user: str = "user_1", room: str = "r", bot: int = 0) -> Any:
        question = Question(room, seq, f"bot_{bot}", user, user, "hi", self.now)
        return self.tell(Asked(question))

    def answer(self, question: Question, text: str | None = "yo") -> Any:
        answer = Answer("", 0, "off") if text is None else Answer(text, 7)
        return self.tell(Answered(question.room_id, question.seq, answer, 100))

    def excuse(self) -> None:
        """The oldest excuse comes back from the shell, bots being switched on."""
        question, excuse = self.excuses.pop(0)
        self.tell(Answered(question.room_id, question.seq, excuse, 0))

    def alarm(self) -> None:
        self.take(self.director.alarm(self.now))

    def die(self, mirrored: bytes | None = None, clean: bool = False) -> None:
        """The next life, from the log, or from a snapshot and what came after it."""
        self.thinking.clear()
        self.excuses.clear()
        if mirrored is None:
            self.director = Director(self.bots, self.budget)
        else:
            self.director = Director.restore(self.bots, self.budget, mirrored, clean)
        for seq, event in self.log:
            if seq > self.director.seq:
                self.director.replay(self.now, 1, seq, event)


# Rotation.


def test_a_day_gives_everybody_their_turn_and_is_chosen_alike_by_a_replay() -> None:
    there = Stage(Budget(active=4))
    shifts: list[tuple[str, ...]] = []
    for hour in range(24):
        there.now = START + hour * HOUR + random.Random(hour).randrange(HOUR)
        for _ in range(3):  # each gateway's clock strikes
            there.tell(RotationDue())
        shifts.append(there.online)
        if hour % 5 == 4:
            there.die(there.director.snapshot() if hour % 2 else None)
    assert shifts[0] == ("bot_0", "bot_1", "bot_2", "bot_3")
    assert shifts[1] == ("bot_4", "bot_5", "bot_6", "bot_7")
    assert shifts[2] == ("bot_8", "bot_0", "bot_1", "bot_2")
    turns = Counter(bot for shift in shifts for bot in shift)
    assert sum(turns.values()) == 96 == there.counts["rotations"]
    assert set(turns.values()) <= {10, 11}  # 96 over 9
    for before, after in zip(shifts, shifts[1:], strict=False):
        assert len(set(before) & set(after)) == 0


def test_a_rotation_is_logged_once_and_told_as_often_as_it_is_asked_for() -> None:
    there = Stage(Budget(active=2))
    assert len(there.log) == 1
    (online,) = there.tell(RotationDue())
    line = tuple(f"bot_{n}" for n in (2, 3, 4, 5, 6, 7, 8, 0, 1))
    assert online == Active(("bot_0", "bot_1"), line)
    there.now -= 5 * HOUR  # a clock that goes back
    (again,) = there.tell(RotationDue())
    assert again == online
    assert len(there.log) == 1


def test_another_directory_or_number_rotates_at_once() -> None:
    there = Stage(Budget(active=4))
    there.bots = BOTS[2:]
    there.die()
    there.tell(RotationDue())
    assert set(there.online) <= {bot.id for bot in BOTS[2:]}
    assert len(there.online) == 4
    there.budget = Budget(active=2)
    there.die()
    there.tell(RotationDue())
    assert len(there.online) == 2


def test_a_question_of_the_new_hour_rotates_too() -> None:
    there = Stage(Budget(active=4))
    there.now += HOUR
    there.ask(1, bot=4)
    assert there.online == ("bot_4", "bot_5", "bot_6", "bot_7")
    assert [question.bot_id for question in there.thinking] == ["bot_4"]


# Questions.


def test_a_question_is_reserved_thought_about_and_answered_once() -> None:
    there = Stage()
    effects = there.ask(5)
    kinds = [type(effect) for effect in effects]
    assert kinds == [Count, fx.Append, Spent, Spent, Think]
    assert effects[2] == Spent(START // DAY, None, 1)
    assert effects[3] == Spent(START // DAY, "user_1", 1)
    (question,) = there.thinking
    there.answer(question)
    there.answer(question)
    assert there.said == [("room:r", fx.Says("bot_0", "Bot 0", 5, "yo"))]
    assert there.counts["mentions"] == there.counts["replies"] == 1
    assert there.counts["tokens"] == 7
    assert there.counts["latency_ms"] == 100


def test_it_stays_awake_while_somebody_thinks() -> None:
    there = Stage()
    assert there.director.alarm_at is None
    there.ask(1)
    assert there.director.alarm_at == there.now + THINKING_MS
    there.answer(there.thinking[0])
    assert there.director.alarm_at is None


def test_who_is_unknown_is_silent() -> None:
    there = Stage()
    assert there.ask(2, bot=99) == []


def test_who_is_off_duty_says_so_once_an_hour_in_a_room_and_spends_nothing() -> None:
    there = Stage(Budget(active=2, user=1))
    there.now += 30 * 60_000
    for _ in range(3):
        effects = there.ask(1, bot=3)
        assert not any(isinstance(effect, Spent) for effect in effects)
    there.ask(1, bot=3, room="other", user="user_2")
    assert there.thinking == there.said == []
    while there.excuses:
        there.excuse()
    text = "I am off duty, and back in 30 minutes. Meanwhile try Bot 0 or Bot 1."
    assert [(room, says.content) for room, says in there.said] == [
        ("room:r", text),
        ("room:other", text),
    ]
    there.die()
    there.ask(2, bot=3)
    there.die(there.director.snapshot())
    there.ask(3, bot=3)
    assert there.excuses == [], "told, whatever dies"
    assert there.counts["refused_repeated"] == 2
    assert there.counts["refused_off_duty"] == 4
    there.ask(4)
    there.answer(there.thinking[0])
    assert [question.seq for question in there.thinking] == [4], "and nothing is spent"
    there.now += HOUR
    there.ask(6, bot=3, user="user_2")
    assert [question.seq for question in there.thinking] == [4, 6], "its turn has come"


def test_an_excuse_says_when_its_turn_is_and_only_then_comes_it() -> None:
    for bot in range(1, 9):
        there = Stage(Budget(active=1))
        there.ask(1, bot=bot)
        (_, excuse) = there.excuses[0]
        hours = "hour" if bot == 1 else "hours"
        assert f"back in about {bot} {hours}. Meanwhile try Bot 0." in excuse.text
        for hour in range(1, bot + 1):
            there.now = START + hour * HOUR
            there.tell(RotationDue())
            assert (f"bot_{bot}" in there.online) == (hour == bot)


def test_an_excuse_waits_for_nobody_and_is_given_when_there_is_time() -> None:
    there = Stage(Budget(active=2))
    there.ask(1)
    there.ask(2, bot=3)
    assert there.excuses == [] and there.counts["refused_off_duty"] == 1
    there.answer(there.thinking[0])
    there.ask(3, bot=3)
    there.ask(4)
    assert len(there.excuses) == len(there.thinking) == 1, "and keeps the floor"
    there.excuse()
    assert [question.seq for question in there.thinking] == [1, 4]


def test_excuses_are_remembered_up_to_a_bound() -> None:
    there = Stage(Budget(active=2))
    for room in range(EXCUSES + 1):
        there.ask(1, room=f"r{room}", bot=3)
        there.excuse()
    there.ask(2, room=f"r{EXCUSES}", bot=3)
    assert there.excuses == []
    there.ask(2, room="r0", bot=3)
    assert len(there.excuses) == 1, "forgotten, and told again"


def test_one_at_a_time_in_a_room_and_the_line_has_an_end() -> None:
    there = Stage()
    for seq in range(1, LINE + 4):
        there.ask(seq)
    there.ask(1, room="other")
    assert [(q.room_id, q.seq) for q in there.thinking] == [("r", 1), ("other", 1)]
    assert there.counts["refused_busy"] == 2
    for seq in range(1, LINE + 2):
        (mine,) = [q for q in there.thinking if q.room_id == "r" and q.seq == seq]
        there.answer(mine)
    assert [says.seq for room, says in there.said] == list(range(1, LINE + 2))
    assert there.director.alarm_at is not None  # the other room's


def test_an_answer_that_never_comes_gives_the_floor_to_the_next() -> None:
    there = Stage()
    there.ask(1)
    there.ask(2)
    there.now += THINKING_MS
    there.alarm()
    assert [q.seq for q in there.thinking] == [1, 2]
    there.answer(there.thinking[0], "too late")
    assert there.said == []
    there.answer(there.thinking[1])
    assert [says.seq for _, says in there.said] == [2]
    assert there.counts["refused_lost"] == 1


def test_a_question_that_comes_twice_is_thought_about_once() -> None:
    there = Stage()
    there.ask(1)
    there.ask(2)
    there.ask(1)
    there.ask(2)
    assert len(there.thinking) == 1
    assert there.counts["refused_repeated"] == 2
    assert len(there.log) == 3


def test_switched_off_meanwhile_nothing_is_said() -> None:
    there = Stage()
    there.ask(1)
    there.ask(2)
    there.answer(there.thinking[0], None)
    assert there.said == []
    assert there.counts["refused_off"] == 1
    assert [q.seq for q in there.thinking] == [1, 2]


def test_an_excuse_is_said_and_counted_as_what_it_excuses() -> None:
    there = Stage()
    there.ask(1)
    excuse = Answer("the line is down", outcome="timeout")
    there.tell(Answered("r", 1, excuse, 15_000))
    assert [says.content for _, says in there.said] == ["the line is down"]
    assert there.counts["refused_timeout"] == 1
    assert there.counts["replies"] == 0


def test_what_is_no_notification_of_ours_is_passed_over() -> None:
    there = Stage()
    assert there.director.notify(there.now, b"\xc1") == []
    assert there.tell(fx.StatusChanged("user_1", "busy")) == []


# The budget.


def test_over_the_quota_it_says_so_once_and_is_silent_until_tomorrow() -> None:
    there = Stage(Budget(active=9, user=2))
    for seq in range(1, 6):
        there.ask(seq)
        there.answer(there.thinking[-1])
        if there.excuses:
            there.excuse()
    assert [says.seq for _, says in there.said] == [1, 2, 3]
    assert "tomorrow" in there.said[-1][1].content
    assert there.counts["refused_quota_user"] == 3
    there.ask(9, user="user_2")
    assert len(there.thinking) == 3
    there.die()
    there.ask(10)
    assert there.excuses == []  # told already, in an earlier life
    there.now += DAY
    there.ask(11)
    assert [q.seq for q in there.thinking] == [11]


def crowd(people: int, rooms: int) -> Iterable[tuple[str, str, int]]:
    asked = [(f"user_{n}", f"r{n % rooms}", n + 1) for n in range(people)]
    random.Random(7).shuffle(asked)
    return asked


def test_two_hundred_at_once_in_twenty_rooms_with_thirty_left() -> None:
    there = Stage(Budget(active=9, day=100, user=0))
    for seq in range(70):
        there.ask(seq + 1, room=f"before{seq}")
        there.answer(there.thinking[-1])
    there.said.clear()
    there.thinking.clear()
    for user, room, seq in crowd(200, 20):
        there.ask(seq, user, room)
    done = 0
    while done < len(there.thinking) or there.excuses:
        if there.excuses:
            there.excuse()
        else:
            there.answer(there.thinking[done])
            done += 1
    answers = [says for _, says in there.said if "tomorrow" not in says.content]
    assert len(answers) == 30 == len(there.thinking)
    sleepy = [room for room, says in there.said if "tomorrow" in says.content]
    assert len(sleepy) == len(set(sleepy)) <= 20
    assert there.counts["refused_quota_day"] == 170


# Any life of it.

moves = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 3), st.integers(0, 2)),
    st.tuples(st.just("answer"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([1, THINKING_MS, HOUR, DAY]), st.none()),
    st.tuples(st.just("mirror"), st.none(), st.none()),
    st.tuples(st.just("die"), st.booleans(), st.none()),
    st.tuples(st.just("sleep"), st.none(), st.none()),
    st.tuples(st.just("strike"), st.none(), st.none()),
)


@settings(max_examples=tries(150))
@given(st.lists(moves, min_size=15, max_size=80))
def test_no_order_of_events_and_crashes_buys_an_answer_too_many(
    life: list[tuple[str, Any, Any]],
) -> None:
    there = Stage(Budget(active=9, day=5, user=3))
    seq, mirrored = 0, None
    spent: Counter[tuple[int, str]] = Counter()
    for kind, what, more in life:
        if kind == "ask":
            seq += 1
            for effect in there.ask(seq, f"user_{what}", f"r{more}"):
                if isinstance(effect, Spent) and effect.user_id is not None:
                    spent[effect.day, effect.user_id] += 1
        elif kind == "answer" and there.thinking:
            question = there.thinking[what % len(there.thinking)]
            there.answer(question, "yo" if more else None)
        elif kind == "answer" and there.excuses and more:
            there.excuse()
        elif kind == "wait":
            there.now += what
            there.alarm()
        elif kind == "mirror":
            mirrored = there.director.snapshot()
        elif kind == "die":
            there.die(mirrored if what else None)
        elif kind == "sleep" and there.director.alarm_at is None:
            mirrored = there.director.snapshot()
            there.die(mirrored, clean=True)
        elif kind == "strike":
            there.tell(RotationDue())
    said = Counter((room, says.seq) for room, says in there.said)
    assert all(count == 1 for count in said.values())
    per_day: Counter[int] = Counter()
    for (day, _), count in spent.items():
        assert count <= 3
        per_day[day] += count
    assert all(count <= 5 for count in per_day.values())
    # Who replays the log decides as the one that lived.
    again = Stage(there.budget)
    again.log, again.now = there.log, there.now
    again.die()
    assert kept(again) == kept(there)


def kept(there: Stage) -> dict[str, Any]:
    snapshot: dict[str, Any] = msgspec.msgpack.decode(there.director.snapshot())
    return snapshot
