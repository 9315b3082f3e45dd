"""What proxies say, in every spelling, and that nobody else may say it."""

import pytest

from gateway.forwarded import settled

OWN = [(b"host", b"x"), (b"accept", b"*/*")]


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ({"x-forwarded-proto": "https"}, {"x-forwarded-proto": "https"}),
        ({"x-forwarded-proto": " HTTPS , http"}, {"x-forwarded-proto": "https"}),
        ({"x-forwarded-proto": "wss"}, {"x-forwarded-proto": "https"}),
        ({"x-forwarded-proto": "gopher"}, {}),
        ({"x-forwarded-proto": ""}, {}),
        ({"x-forwarded-host": "a.b, c.d"}, {"x-forwarded-host": "a.b"}),
        (
            {"x-forwarded-for": "1.2.3.4, 5.6.7.8"},
            {"x-forwarded-for": "1.2.3.4, 5.6.7.8"},
        ),
        (
            {"forwarded": 'for="[::1]:80";PROTO=https;host="a.b:8000", for=5.6.7.8'},
            {
                "x-forwarded-for": "[::1]:80, 5.6.7.8",
                "x-forwarded-proto": "https",
                "x-forwarded-host": "a.b:8000",
            },
        ),
        (
            {"forwarded": 'for="a,b;c";proto=http'},
            {"x-forwarded-for": "a,b;c", "x-forwarded-proto": "http"},
        ),
        ({"forwarded": 'for="un;finished, =;;,'}, {}),
        (
            {"forwarded": "proto=https", "x-forwarded-proto": "http"},
            {"x-forwarded-proto": "https"},
        ),
    ],
)
def test_a_trusted_proxys_word_is_brought_into_one_form(
    sent: dict[str, str], found: dict[str, str]
) -> None:
    headers = [(name.encode(), value.encode()) for name, value in sent.items()]
    expected = [(name.encode(), value.encode()) for name, value in found.items()]
    assert settled([*OWN, *headers], True) == [*OWN, *expected]
    assert settled([*OWN, *headers], False) == OWN
