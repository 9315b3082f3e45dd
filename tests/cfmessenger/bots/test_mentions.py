"""Who is spoken to: the longest name, at the first mention, and never inside a word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.bots.mentions import Names
from cfmessenger.users import Directory

BOTS = (
    ("bot_mixtape", "DJ Rewind"),
    ("bot_dialup", "Dial-Up Doris"),
    ("bot_dj", "DJ"),
    ("bot_glitter", "~*Glitterbomb*~"),
    ("bot_strasse", "Straße"),
)
NAMES = Names(BOTS)


@pytest.mark.parametrize(
    ("text", "bot"),
    [
        ("@mixtape", "bot_mixtape"),
        ("hi @bot_mixtape!", "bot_mixtape"),
        ("@dj rewind, play", "bot_mixtape"),
        ("@DJ play", "bot_dj"),
        ("@DJ rewinds", "bot_dj"),
        ("@Dial-up DORIS?", "bot_dialup"),
        ("@~*glitterbomb*~wow", "bot_glitter"),
        ("(@glitter)", "bot_glitter"),
        ("@STRASSE", "bot_strasse"),
        ("@nobody and then @dialup", "bot_dialup"),
        ("@dialup or @mixtape", "bot_dialup"),
        ("@@dialup", "bot_dialup"),
        ("me@dialup.example", None),
        ("@dialups", None),
        ("@dialup_2", None),
        ("dialup", None),
        ("@", None),
        ("", None),
    ],
)
def test_spoken_to(text: str, bot: str | None) -> None:
    assert NAMES.spoken_to(text) == bot


@given(
    st.sampled_from(BOTS),
    st.text(alphabet=" .,!?-", max_size=5),
    st.text(alphabet=" .,!?'\"", max_size=5),
    st.booleans(),
)
def test_any_name_in_any_case_between_what_is_no_word(
    bot: tuple[str, str], before: str, after: str, upper: bool
) -> None:
    for name in (bot[0], bot[1], bot[0].removeprefix("bot_")):
        said = name.upper() if upper else name
        assert NAMES.spoken_to(f"{before}@{said}{after}") == bot[0]


@given(st.text())
def test_whatever_is_said_it_is_one_of_them_or_nobody(text: str) -> None:
    found = NAMES.spoken_to(text)
    assert found is None or (found in NAMES.ids and "@" in text.casefold())


def test_every_seeded_bot_can_be_spoken_to() -> None:
    bots = Directory.load().bots
    names = Names((bot.id, bot.display_name) for bot in bots)
    for bot in bots:
        assert names.spoken_to(f"hey @{bot.display_name}, hi") == bot.id
        assert names.spoken_to(f"@{bot.id.removeprefix('bot_')}: hi") == bot.id
