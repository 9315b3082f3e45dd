"""Reading: what a line that somebody said is about, as far as a script can tell.

Pure. Owns the intents (a greeting, thanks, a question …) and the word that is worth
coming back to; what to make of them is `scripted`'s.
"""

import re
import unicodedata
from typing import Literal

import msgspec

Intent = Literal["hello", "thanks", "bye", "sad", "glad", "who", "ask", "talk"]

MAX_TOPIC = 24
MAX_NAME = 24
NOBODY = "friend"

_PHRASES: dict[Intent, tuple[str, ...]] = {
    "thanks": ("thanks", "thank you", "thx", "cheers", "ta"),
    "bye": ("bye", "goodbye", "good night", "goodnight", "see you", "cya", "brb"),
    "who": ("who are you", "what are you", "are you a bot", "are you real", "a robot"),
    "sad": (
        *("sad", "tired", "lonely", "bored", "awful", "terrible", "upset", "worried"),
        *("cry", "crying", "lost", "failed", "broke", "broken", "hate", "sick"),
    ),
    "glad": (
        *("happy", "great", "awesome", "brilliant", "won", "passed", "love", "yay"),
        *("finally", "excited", "wonderful", "amazing", "hooray", "lol", "haha"),
    ),
    "hello": (
        *("hi", "hello", "hey", "hiya", "yo", "good morning", "good evening"),
        *("good afternoon", "howdy", "greetings", "sup"),
    ),
}
"""In the order in which they count."""

_QUESTIONS = frozenset(
    "what why how when where who which whose can could do does did is are am was were "
    "will would should shall may might have has".split()
)

_COMMON = _QUESTIONS | frozenset(
    "a an and the this that these those there here it its i me my mine you your yours "
    "we us our they them their he she him her his of in on at to for from with about "
    "into over under up down out off by as if or but so not no yes yeah nope okay ok "
    "be been being had just very really too also only even still than then now today "
    "tomorrow yesterday some any every all both each few more most other such own same "
    "please tell say said says know think thing things something anything nothing "
    "everything someone anyone like want wants need needs get gets got make makes made "
    "going gonna wanna let lets don't dont doesn't didn't can't cant won't isn't "
    "i'm im it's that's there's what's who's how's i've i'll i'd you're we're they're "
    "much many good bad well right because when while again always never ever maybe "
    "hi hello hey thanks thank bye lol haha".split()
)

_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_NAMED = re.compile(r"@[\w-]+")
_LINK = re.compile(r"(?:https?://|www\.)\S+|<[^>]*>")


class Gist(msgspec.Struct, frozen=True, gc=False):
    """What a line is about. `topic`: a word in lower case, "" if none stands out."""

    intent: Intent
    topic: str


def read(text: str, names: tuple[str, ...] = ()) -> Gist:
    """What the line is about. `names` are the bot's own, and are not topics."""
    plain = _LINK.sub(" ", unicodedata.normalize("NFC", text)[:2048])
    for name in names:
        plain = re.sub(f"@?{re.escape(name)}", " ", plain, flags=re.IGNORECASE)
    plain = _NAMED.sub(" ", plain).lower().strip()
    words = [word.strip("'’-") for word in _WORD.findall(plain)]
    return Gist(_intent(plain, words), _topic(words))


def _intent(plain: str, words: list[str]) -> Intent:
    said = f" {' '.join(words)} "
    question = plain.rstrip(" !.").endswith("?") or (
        bool(words) and words[0] in _QUESTIONS
    )
    for intent, phrases in _PHRASES.items():
        # A question that happens to begin with "hi" is a question.
        if intent == "hello" and (question or len(words) > 4):
            continue
        if any(f" {phrase} " in said for phrase in phrases):
            return intent
    return "ask" if question else "talk"


def _topic(words: list[str]) -> str:
    """The longest word that is not a common one; of equals the first."""
    worth = [w for w in words if w not in _COMMON and 2 < len(w) <= MAX_TOPIC]
    return max(worth, key=len, default="")


def called(display_name: str) -> str:
    """What to call somebody: the first word of their name, without its ornaments."""
    found = _WORD.search(display_name)
    return found[0].rstrip("'’-")[:MAX_NAME] if found else NOBODY
