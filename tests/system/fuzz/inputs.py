"""What the frame fuzzer sends: strategies for messages, fragments, and bad endings.

A `Step` is some bytes and what wire.md and RFC 6455 answer them with.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.system.fuzz import oracle
from tests.system.fuzz.line import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

Frame = dict[str, Any]

MAX_FRAGMENTS = 64
NEVER = frozenset[int]()


@dataclass(frozen=True)
class Step:
    """Some bytes, and what they are answered with.

    `closes`: the close codes that may follow, empty where the socket lives on. `pongs`
    are control frames' payloads.
    """

    name: str
    data: tuple[bytes, ...]
    answers: tuple[oracle.Verdict, ...] = ()
    pongs: tuple[bytes, ...] = ()
    closes: frozenset[int] = NEVER

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        data = b"".join(self.data)
        printer.text(f"<{self.name}: {len(data)} bytes, {data[:200].hex()}>")


# What to send.

keys = st.binary(min_size=4, max_size=4)
ids = st.one_of(
    st.text("abz09._:-", min_size=1, max_size=8),
    st.text("aZ9._:-", min_size=64, max_size=65),
    st.sampled_from(["", "../x", "é", " "]),
)
contents = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text("a😀é\n\t", min_size=1020, max_size=1030),
    st.integers(2046, 2050).map(lambda size: "x" * size),
    st.sampled_from(["<b>&\u2028", "{{7*7}}", "\u202etxt", "  ", "\u0000", "👩‍👩‍👧"]),
)
winks = st.one_of(st.text("az09_-", min_size=1, max_size=65), st.just("../pig"))
statuses = st.sampled_from(["online", "busy", "away", "offline", "sleeping"])


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Frame]:
    """A frame; a name that ends in `_` is optional."""
    needed = {k: v for k, v in fields.items() if not k.endswith("_")}
    optional = {k[:-1]: v for k, v in fields.items() if k.endswith("_")}
    return st.fixed_dictionaries(needed, optional=optional)


pings = objects(type=st.just("ping"), t_=st.integers(-(2**54), 2**54))
room_frames = st.one_of(
    objects(type=st.just("chat"), content=contents, id_=ids),
    objects(type=st.just("nudge"), id_=ids),
    objects(type=st.just("wink"), winkId=winks, id_=ids),
    objects(type=st.just("typing"), isTyping=st.booleans()),
    objects(type=st.just("presence"), status=statuses, displayName_=contents),
    objects(type=st.just("ack"), ackId=ids, status=st.sampled_from(["read", "seen"])),
    pings,
    objects(type=st.sampled_from(["system", "history", "error", "", "Chat"])),
)
users = st.lists(st.sampled_from(["user_1", "user_2", "n", "N", 7, ""]), max_size=4)
presence_frames = st.one_of(
    objects(type=st.sampled_from(["watch", "unwatch"]), userIds_=users),
    objects(type=st.just("presence_update"), status=statuses, displayName_=contents),
    pings,
    objects(type=st.sampled_from(["chat", "presence_join", "x"])),
)


@st.composite
def mutated(draw: st.DrawFn, frames: st.SearchStrategy[Frame]) -> bytes:
    """A frame's JSON with something cut, doubled, put in or changed."""
    data = bytearray(
        json.dumps(draw(frames), ensure_ascii=draw(st.booleans())).encode()
    )
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 12)))
        piece = draw(
            st.one_of(
                st.sampled_from(
                    [
                        b"",
                        b"null",
                        b"[",
                        b"}",
                        b'"',
                        b",",
                        b"\\u0000",
                        b"\\ud800",
                        b"\xff",
                    ]
                ),
                st.binary(max_size=4),
                st.just(bytes(data[start:end]) * 2),
            )
        )
        data[start:end] = piece
    return bytes(data)


def texts(frames: st.SearchStrategy[Frame]) -> st.SearchStrategy[bytes]:
    """Messages: right, mutated, or no frame at all."""
    plain = frames.map(lambda each: json.dumps(each).encode())
    return st.one_of(
        plain,
        plain,
        mutated(frames),
        st.one_of(st.text(max_size=30).map(str.encode), st.binary(max_size=30)),
        st.recursive(st.none() | st.booleans(), st.lists, max_leaves=4).map(
            lambda value: json.dumps(value).encode()
        ),
        st.integers(16_300, 16_500).map(
            lambda size: json.dumps({"type": "nudge", "pad": "x" * size}).encode()
        ),
    )


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@st.composite
def said(draw: st.DrawFn, messages: st.SearchStrategy[bytes], types: Any) -> Step:
    """One message in one frame or many, control frames in between."""
    message = draw(
        messages.filter(
            lambda data: is_utf8(data) and oracle.verdict(data, types) is not None
        )
    )
    at = draw(st.lists(st.integers(0, len(message)), max_size=5).map(sorted))
    pieces = [message[a:b] for a, b in itertools.pairwise([0, *at, len(message)])]
    sent: list[bytes] = []
    pongs: list[bytes] = []
    for number, piece in enumerate(pieces):
        if number and draw(st.integers(0, 9)) == 0 and len(pongs) < 2:
            pongs.append(draw(st.binary(max_size=125)))
            sent.append(frame(PING, pongs[-1], mask=draw(keys)))
        opcode = CONTINUATION if number else TEXT
        last = number == len(pieces) - 1
        sent.append(frame(opcode, piece, fin=last, mask=draw(keys)))
    found = oracle.verdict(message, types)
    assert found is not None
    name = found.code or found.kind
    return Step(name, tuple(sent), (found,), tuple(pongs))


@st.composite
def dribbled(draw: st.DrawFn, steps: st.SearchStrategy[Step]) -> Step:
    """The same bytes in other pieces of TCP."""
    step = draw(steps)
    data = b"".join(step.data)
    at = draw(st.lists(st.integers(0, len(data)), max_size=4).map(sorted))
    pieces = [data[a:b] for a, b in itertools.pairwise([0, *at, len(data)])]
    return Step(step.name, tuple(pieces), step.answers, step.pongs, step.closes)


@st.composite
def repeated(draw: st.DrawFn) -> Step:
    """The same id twice is one message, told twice to its sender."""
    content = draw(st.text("abc ", min_size=1, max_size=9).filter(str.strip))
    told = {"type": "chat", "content": content, "id": f"twice-{draw(st.uuids())}"}
    sent = frame(TEXT, json.dumps(told).encode(), mask=draw(keys))
    echo = oracle.Verdict("said", fields=told)
    return Step("repeated id", (sent, sent), (echo, echo))


control = st.binary(max_size=125).map(
    lambda data: Step("ping", (frame(PING, data),), pongs=(data,))
)
unasked = st.binary(max_size=125).map(lambda data: Step("pong", (frame(PONG, data),)))


def ends(name: str, *codes: int, **how: Any) -> Callable[..., Step]:
    def step(*data: bytes) -> Step:
        return Step(name, data, closes=frozenset(codes), **how)

    return step


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


# Stray, overlong, a surrogate, beyond Unicode, and cut short by the end.
BAD_UTF8 = [
    b"\xff",
    b"\x80",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf0\x9f",
]
REFUSED_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535]
open_text = frame(TEXT, b'{"type":', fin=False)
fatal: st.SearchStrategy[Step] = st.one_of(
    st.binary(max_size=300).map(lambda d: ends("binary", 1003)(frame(BINARY, d))),
    st.binary(max_size=300).map(
        lambda d: ends("binary in fragments", 1003)(
            frame(BINARY, d, fin=False), frame(CONTINUATION, d)
        )
    ),
    st.integers(1, 7).map(
        lambda bits: ends("reserved bits", 1002)(frame(TEXT, b"{}", reserved=bits))
    ),
    st.tuples(st.text(max_size=20), st.sampled_from(BAD_UTF8), st.integers(0, 4)).map(
        lambda drawn: ends("text that is not UTF-8", 1007)(
            frame(TEXT, drawn[0].encode() + drawn[1][: drawn[2]], fin=False),
            frame(CONTINUATION, drawn[1][drawn[2] :]),
        )
    ),
    st.sampled_from([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]).map(
        lambda opcode: ends("reserved opcode", 1002)(frame(opcode, b"x"))
    ),
    st.sampled_from([TEXT, PING, CLOSE]).map(
        lambda opcode: ends("no mask", 1002)(frame(opcode, b"", mask=None))
    ),
    st.sampled_from([PING, PONG, CLOSE]).flatmap(
        lambda opcode: st.integers(126, 300).map(
            lambda size: ends("long control", 1002)(frame(opcode, b"x" * size))
        )
    ),
    st.sampled_from([PING, PONG, CLOSE]).map(
        lambda opcode: ends("control in fragments", 1002)(frame(opcode, fin=False))
    ),
    st.booleans().map(
        lambda fin: ends("stray continuation", 1002)(
            frame(CONTINUATION, b"{}", fin=fin)
        )
    ),
    st.sampled_from([TEXT, BINARY]).map(
        lambda opcode: ends("new data in a fragment", 1002)(
            open_text, frame(opcode, b"{}")
        )
    ),
    st.sampled_from([2**63, 2**63 + 1, 2**64 - 1]).map(
        lambda size: ends("length over 2^63", 1002, 1009)(
            frame(TEXT, b"{", declared=size)
        )
    ),
    st.sampled_from([65_537, 10**8, 2**62]).map(
        lambda size: ends("declared too big", 1009)(frame(TEXT, b"{", declared=size))
    ),
    st.integers(65_537, 70_000).map(
        lambda size: ends("too big", 1009)(frame(TEXT, b"x" * size))
    ),
    st.integers(33_000, 40_000).map(
        lambda size: ends("fragments too big", 1009)(
            frame(TEXT, b"x" * size, fin=False), frame(CONTINUATION, b"x" * size)
        )
    ),
    st.integers(MAX_FRAGMENTS, 200).map(
        lambda count: ends("too many fragments", 1009)(
            frame(TEXT, b"", fin=False), *[frame(CONTINUATION, fin=False)] * count
        )
    ),
    st.integers(22, 40).map(
        lambda count: ends("ping flood", 4508)(*[frame(PING, b"!")] * count)
    ),
    st.sampled_from([b"{", b"[]", b'{"type":"x"}']).map(
        lambda data: ends("bad frame after bad frame", 4508)(*[frame(TEXT, data)] * 21)
    ),
    st.sampled_from(REFUSED_CODES).map(
        lambda code: ends("close with a bad code", 1002)(closing(code))
    ),
    st.just(ends("close of one byte", 1002)(frame(CLOSE, b"\x03"))),
    st.sampled_from([b"\xff", b"\xed\xa0\x80", b"ok\xc3"]).map(
        lambda reason: ends("close reason not UTF-8", 1007)(closing(1000, reason))
    ),
    st.sampled_from([1000, 1001, 1011, 3000, 4000, 4999]).map(
        lambda code: ends("close", code)(closing(code, "tschüß".encode()))
    ),
    st.just(ends("close without a code", 1000, 1005)(frame(CLOSE))),
    # A deviation of the library below that we live with: a protocol error instead.
    st.just(ends("close in a fragment", 1000, 1002)(open_text, closing(1000))),
    st.just(ends("data after close", 1000)(closing(1000), frame(TEXT, b"{}"))),
)
GONE = frozenset({0})
vanishing = st.binary(max_size=40).map(
    lambda data: Step("gone", (frame(TEXT, data)[:-1],), closes=GONE)
)
