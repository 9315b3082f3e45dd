"""The scripts: in character, about what was said, and never the same twice."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cfmessenger.accounts.users import Directory, Profile
from cfmessenger.bots.quiz import cards
from cfmessenger.bots.reading import called, read
from cfmessenger.bots.scripted import MAX_REPLY, Scripted, answer_to
from cfmessenger.bots.talk import Question, Utterance
from cfmessenger.bots.voices import excuse_of
from tests.effort import tries

BOTS = {bot.bot_archetype: bot for bot in Directory.load().bots}
PLAIN = replace(BOTS["music"], id="bot_new", bot_archetype="lighthouse keeper")
EVERYBODY = [*BOTS.values(), PLAIN]


class Talk:
    """A conversation of one person with one bot."""

    def __init__(self, bot: Profile, name: str = "Maya ~*stargazer*~") -> None:
        self.bot, self.name, self.seq = bot, name, 1
        self.history: list[Utterance] = []

    def question(self, text: str) -> Question:
        return Question(
            "r", self.seq, self.bot.id, "u", self.name, text, 0, tuple(self.history)
        )

    def say(self, text: str) -> str:
        answer = answer_to(self.bot, self.question(text))
        self.history.append(Utterance("u", self.name, text))
        self.history.append(Utterance(self.bot.id, self.bot.display_name, answer))
        self.history = self.history[-12:]
        self.seq += 2
        return answer


@pytest.mark.parametrize(
    ("text", "intent", "topic"),
    [
        ("hi there", "hello", ""),
        ("Hello!", "hello", ""),
        ("hi, do you like trains?", "ask", "trains"),
        ("thank you so much", "thanks", ""),
        ("ok bye", "bye", ""),
        ("are you a bot?", "who", "bot"),
        ("I am so tired of homework", "sad", "homework"),
        ("we won the match!", "glad", "match"),
        ("how does a modem work", "ask", "modem"),
        ("my grandmother keeps bees", "talk", "grandmother"),
        ("https://example.org/aaaaaaaaaaaaaaaaaa look", "talk", "look"),
        ("<b>bold</b>", "talk", "bold"),
        ("@mixtape", "talk", ""),
        ("", "talk", ""),
        ("🙂🙂", "talk", ""),
        ("12345", "talk", ""),
        ("Magst du Straßenbahnen?", "ask", "straßenbahnen"),
        ("ты любишь музыку?", "ask", "любишь"),
    ],
)
def test_reading(text: str, intent: str, topic: str) -> None:
    assert (read(text).intent, read(text).topic) == (intent, topic)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("Maya ~*stargazer*~", "Maya"),
        ("~*Glitter*~", "Glitter"),
        ("(^_^)", "friend"),
        ("42", "friend"),
        ("x" * 50, "x" * 24),
    ],
)
def test_what_people_are_called(name: str, call: str) -> None:
    assert called(name) == call


@pytest.mark.parametrize(
    "bot",
    [bot for bot in EVERYBODY if bot.bot_archetype != "quiz"],
    ids=lambda bot: bot.bot_archetype,
)
def test_each_takes_up_what_was_said(bot: Profile) -> None:
    heard = ""
    for n in range(40):
        talk = Talk(bot)
        talk.seq = n
        heard += talk.say("my grandmother keeps llamas")
    assert "Maya" in heard
    assert "grandmother" in heard.casefold()


@pytest.mark.parametrize("bot", EVERYBODY, ids=lambda bot: bot.bot_archetype)
def test_a_long_conversation_repeats_nothing_of_what_is_remembered(
    bot: Profile,
) -> None:
    talk = Talk(bot)
    for n in range(60):
        before = {line.text for line in talk.history}
        answer = talk.say(["hi", "hi", "why?", "my cat sings", "lol"][n % 5])
        assert answer not in before


def test_a_bot_that_is_asked_says_that_it_is_one() -> None:
    for bot in EVERYBODY:
        if bot.bot_archetype != "quiz":
            assert "bot" in Talk(bot).say("are you a bot?").casefold()


def test_the_quizmaster_judges_hints_and_tells() -> None:
    talk = Talk(BOTS["quiz"])
    asked = talk.say("let's play")
    card = next(card for card in cards() if asked.endswith(card.ask))
    assert card.hint in talk.say("purple monkeys")
    told = talk.say("green monkeys")
    assert card.say in told
    second = next(card for card in cards() if told.endswith(card.ask))
    assert second != card
    right = talk.say(f"I think it is {second.answers[0].upper()}!")
    assert right.startswith("Correct, Maya")
    third = next(card for card in cards() if right.endswith(card.ask))
    assert third.hint in talk.say("a hint please")
    assert third.say in talk.say("dunno")
    assert "Next question" in talk.say("hello!")


def test_every_way_of_every_voice_can_be_filled() -> None:
    for bot in EVERYBODY:
        for text in ("hi", "thanks", "bye", "sad", "yay", "who are you", "a?", "llama"):
            for seq in range(30):
                talk = Talk(bot)
                talk.seq = seq
                answer = talk.say(text)
                assert "{" not in answer
                assert "…" not in answer


def test_everybody_has_an_excuse() -> None:
    for bot in EVERYBODY:
        excuse = excuse_of(bot, Talk(bot).question("hi"))
        assert "Maya" in excuse
        assert "{" not in excuse


async def test_the_port() -> None:
    composing: list[int] = []
    scripted = Scripted()
    question = Talk(PLAIN).question("hello")
    answer = await scripted.reply(PLAIN, question, lambda: composing.append(1))
    assert answer.outcome == "ok"
    assert answer.tokens == 0
    assert composing
    await scripted.aclose()


anything = st.text(max_size=200) | st.sampled_from(
    ["<script>alert(1)</script>", "x" * 2048, "{name}", "{", "%s", "\n\n", "\u202e"]
)


@settings(max_examples=tries(300))
@given(
    st.sampled_from(EVERYBODY),
    anything,
    st.text(min_size=1, max_size=50),
    st.integers(0, 10**6),
    st.lists(anything, max_size=12),
)
def test_whatever_is_said_the_answer_is_a_fresh_line(
    bot: Profile, text: str, name: str, seq: int, before: list[str]
) -> None:
    history = tuple(Utterance(bot.id, bot.display_name, line) for line in before)
    question = Question("r", seq, bot.id, "u", name, text, 0, history)
    answer = answer_to(bot, question)
    assert 0 < len(answer) <= MAX_REPLY
    assert answer not in before
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in answer)
    assert answer == answer_to(bot, question)
