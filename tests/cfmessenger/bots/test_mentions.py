"""Who is spoken to: the longest name, at the first mention, and never inside a word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.accounts.users import Directory
from cfmessenger.bots.mentions import Names

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
        # Where a person would mean one.
        ("\t@dialup", "bot_dialup"),
        ("so\n@dialup", "bot_dialup"),
        ("\u3000@dialup", "bot_dialup"),
        ("hi,@dialup", "bot_dialup"),
        ("hi!@dialup", "bot_dialup"),
        ("cc:@dialup", "bot_dialup"),
        (".@dialup", "bot_dialup"),
        ("--@dialup", "bot_dialup"),
        ("why?(@dialup)", "bot_dialup"),
        ("[@dialup]", "bot_dialup"),
        ('"@dialup"', "bot_dialup"),
        ("'@dialup'", "bot_dialup"),
        ("\u201c@dialup\u201d", "bot_dialup"),
        ("\u00ab@dialup\u00bb", "bot_dialup"),
        ("\u300c@dialup\u300d", "bot_dialup"),
        ("wait\u2014@dialup", "bot_dialup"),
        ("well\u2026@dialup", "bot_dialup"),
        ("\u00bf@dialup?", "bot_dialup"),
        ("\U0001f44b@dialup", "bot_dialup"),
        ("yes\u2764\ufe0f@dialup", "bot_dialup"),
        ("\u4f60\u597d@dialup", "bot_dialup"),
        ("ok\u3002@dialup", "bot_dialup"),
        ("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35@dialup", "bot_dialup"),
        ("\uc548\ub155@dialup\uc544", "bot_dialup"),
        ("@dialup\u3055\u3093", "bot_dialup"),
        ("@dialup\uff0c\u4f60\u597d", "bot_dialup"),
        ("@dialup's song", "bot_dialup"),
        ("@dialup...", "bot_dialup"),
        ("@dialup: hi", "bot_dialup"),
        ("@dialup:hi", "bot_dialup"),
        ("@dialup)", "bot_dialup"),
        ("@dialup\u2019s", "bot_dialup"),
        ("@dialup\U0001f600", "bot_dialup"),
        ("https://h/ @dialup", "bot_dialup"),
        ("@dialup https://h/@mixtape", "bot_dialup"),
        ("https://h/@mixtape, @dialup", "bot_dialup"),
        # A part of something else.
        ("https://h/@dialup", None),
        ("(https://h/@dialup)", None),
        ("see:https://h/,@dialup", None),
        ("HTTPS://H.EXAMPLE/(@dialup)", None),
        ("ftp://@dialup/", None),
        ("h.example/x,@dialup", None),
        ("h.example?to=,@dialup", None),
        ("www.h.example,@dialup", None),
        ("mailto:,@dialup", None),
        ("?u=@dialup", None),
        ("a&u=@dialup", None),
        ("x#@dialup", None),
        ("/@dialup", None),
        ("~me/@dialup", None),
        ("a.b+@dialup", None),
        ("a.b-@dialup", None),
        ("a.@dialup", None),
        ("a_@dialup", None),
        ("me@@dialup", None),
        ("caf\u00e9@dialup", None),
        ("cafe\u0301@dialup", None),
        ("\u0438\u043c\u044f@dialup", None),
        ("7@dialup", None),
        ("`@dialup`", None),
        ("@dialup.example", None),
        ("@dialup@h.example", None),
        ("@dialup/core", None),
        ("@dialup-fan", None),
        ("@dialup\u00e9", None),
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


LINKS = st.sampled_from(["https://h.example/", "www.h.example/", "h.example/a?b="])


@given(LINKS, st.text(alphabet="ab,.;!()'~/=&-", max_size=8), st.sampled_from(BOTS))
def test_nobody_is_spoken_to_in_a_link(
    link: str, path: str, bot: tuple[str, str]
) -> None:
    assert NAMES.spoken_to(f"look: {link}{path}@{bot[0]} there") is None


@given(
    st.from_regex(r"[a-z0-9]([a-z0-9.+_-]{0,9})", fullmatch=True),
    st.sampled_from(BOTS),
    st.sampled_from(["", ".example", ">", ", hi"]),
)
def test_nobody_is_spoken_to_in_an_address(
    local: str, bot: tuple[str, str], rest: str
) -> None:
    assert NAMES.spoken_to(f"write to {local}@{bot[0]}{rest}") is None


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
