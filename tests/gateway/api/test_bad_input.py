"""Bad input over real sockets and HTTP, each with its exact answer (design.md §12).

After each bad frame the next good one must work, and nothing of the bad one is seen.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.gateway.edge import refused
from tests.gateway.node import (
    Node,
    Refused,
    Socket,
    dial,
    error_of,
    exactly,
    live,
    new_room,
)
from tests.wire_rows import wire

CONTENT = (
    "content: must be text of 1-2048 characters, not blank, without control characters "
    "but tab and newline"
)
NAME = (
    "displayName: must be text of 1-50 characters, not blank, without control or "
    "bidirectional-override characters"
)
STATUS = "status: must be online, busy, away or offline"
RECEIPT = "status: must be delivered or read"
ID = "id: must be 1-64 of A-Z a-z 0-9 . _ : -"
ACK_ID = "ackId: must be 1-64 of A-Z a-z 0-9 . _ : -"
WINK = "winkId: must be 1-64 of a-z 0-9 _ -"
TYPING = "isTyping: must be true or false"
TYPE = "type: must be a string, given once"
JSON = "The frame is not valid JSON."
OBJECT = "A frame must be a JSON object."
UNKNOWN = "There is no such frame type."
LARGE = "A frame is at most 16 KiB."

deep = '{"type":"chat","content":"x","deep":' + "[" * 7000 + "]" * 7000 + "}"
many = ",".join(f'"k{i}":{i}' for i in range(1000))

# frame -> code, message, the id that is echoed
FRAMES: dict[str, tuple[str, str, str, str | None]] = {
    # content
    "2049 characters": (
        f'{{"type":"chat","id":"b1","content":"{"x" * 2049}"}}',
        "VALIDATION_ERROR",
        CONTENT,
        "b1",
    ),
    "1025 emoji are 2050": (
        f'{{"type":"chat","content":"{"😀" * 1025}"}}',
        "VALIDATION_ERROR",
        CONTENT,
        None,
    ),
    "empty": ('{"type":"chat","content":""}', "VALIDATION_ERROR", CONTENT, None),
    "blank": (
        '{"type":"chat","content":" \\n\\t "}',
        "VALIDATION_ERROR",
        CONTENT,
        None,
    ),
    "without width": (
        '{"type":"chat","content":"\u200b\u200d"}',
        "VALIDATION_ERROR",
        CONTENT,
        None,
    ),
    "fillers and a dotless cell": (
        '{"type":"chat","content":"\u3164\uffa0\u115f\u2800","id":"b10"}',
        "VALIDATION_ERROR",
        CONTENT,
        "b10",
    ),
    "variation selectors and vowels that are not shown": (
        '{"type":"presence","status":"busy","displayName":"\ufe0f\u180b\u17b4"}',
        "VALIDATION_ERROR",
        NAME,
        None,
    ),
    "NUL": ('{"type":"chat","content":"a\\u0000"}', "VALIDATION_ERROR", CONTENT, None),
    "escape": (
        '{"type":"chat","content":"\\u001b[2J"}',
        "VALIDATION_ERROR",
        CONTENT,
        None,
    ),
    "carriage return": (
        '{"type":"chat","content":"a\\r\\nb"}',
        "VALIDATION_ERROR",
        CONTENT,
        None,
    ),
    "no content": ('{"type":"chat","id":"b2"}', "VALIDATION_ERROR", CONTENT, "b2"),
    # wrong types
    "number": ('{"type":"chat","content":1}', "VALIDATION_ERROR", CONTENT, None),
    "null": ('{"type":"chat","content":null}', "VALIDATION_ERROR", CONTENT, None),
    "object": ('{"type":"chat","content":{"a":1}}', "VALIDATION_ERROR", CONTENT, None),
    "id number": ('{"type":"chat","content":"x","id":7}', "VALIDATION_ERROR", ID, None),
    "id null": ('{"type":"nudge","id":null}', "VALIDATION_ERROR", ID, None),
    "id empty": ('{"type":"nudge","id":""}', "VALIDATION_ERROR", ID, None),
    "id 65": (f'{{"type":"nudge","id":"{"x" * 65}"}}', "VALIDATION_ERROR", ID, None),
    "id newline": ('{"type":"nudge","id":"x\\n"}', "VALIDATION_ERROR", ID, None),
    "id path": ('{"type":"nudge","id":"../x"}', "VALIDATION_ERROR", ID, None),
    "wink upper": ('{"type":"wink","winkId":"Pig"}', "VALIDATION_ERROR", WINK, None),
    "wink path": ('{"type":"wink","winkId":"../a"}', "VALIDATION_ERROR", WINK, None),
    "wink 65": (
        f'{{"type":"wink","winkId":"{"w" * 65}"}}',
        "VALIDATION_ERROR",
        WINK,
        None,
    ),
    "no wink": ('{"type":"wink","id":"b3"}', "VALIDATION_ERROR", WINK, "b3"),
    "typing 1": ('{"type":"typing","isTyping":1}', "VALIDATION_ERROR", TYPING, None),
    "typing text": (
        '{"type":"typing","isTyping":"true"}',
        "VALIDATION_ERROR",
        TYPING,
        None,
    ),
    "status": (
        '{"type":"presence","status":"sleeping"}',
        "VALIDATION_ERROR",
        STATUS,
        None,
    ),
    "name 51": (
        f'{{"type":"presence","status":"busy","displayName":"{"n" * 51}"}}',
        "VALIDATION_ERROR",
        NAME,
        None,
    ),
    "name bidi": (
        '{"type":"presence","status":"busy","displayName":"a\u202eb"}',
        "VALIDATION_ERROR",
        NAME,
        None,
    ),
    "name newline": (
        '{"type":"presence","status":"busy","displayName":"a\\nb"}',
        "VALIDATION_ERROR",
        NAME,
        None,
    ),
    "ack sent": (
        '{"type":"ack","ackId":"x","status":"sent"}',
        "VALIDATION_ERROR",
        RECEIPT,
        None,
    ),
    "ack id": ('{"type":"ack","status":"read"}', "VALIDATION_ERROR", ACK_ID, None),
    "ping float": (
        '{"type":"ping","t":1.5}',
        "VALIDATION_ERROR",
        "t: must be integer milliseconds",
        None,
    ),
    "ping 400 digits": (
        f'{{"type":"ping","t":{"9" * 400}}}',
        "VALIDATION_ERROR",
        "t: must be integer milliseconds",
        None,
    ),
    # types
    "unknown type": ('{"type":"shout","id":"b4"}', "UNKNOWN_TYPE", UNKNOWN, "b4"),
    "server's type": ('{"type":"system","content":"x"}', "UNKNOWN_TYPE", UNKNOWN, None),
    "server's history": ('{"type":"history"}', "UNKNOWN_TYPE", UNKNOWN, None),
    "other socket's": (
        '{"type":"presence_update","status":"busy"}',
        "UNKNOWN_TYPE",
        UNKNOWN,
        None,
    ),
    "no type": ('{"content":"x"}', "VALIDATION_ERROR", TYPE, None),
    "type number": ('{"type":1}', "VALIDATION_ERROR", TYPE, None),
    "type null": ('{"type":null}', "VALIDATION_ERROR", TYPE, None),
    "type twice": (
        '{"type":"ping","type":"chat","content":"x"}',
        "VALIDATION_ERROR",
        TYPE,
        None,
    ),
    "type twice, escaped": (
        '{"type":"chat","content":"x","\\u0074ype":"nudge"}',
        "VALIDATION_ERROR",
        TYPE,
        None,
    ),
    "array": ("[]", "VALIDATION_ERROR", OBJECT, None),
    "text": ('"chat"', "VALIDATION_ERROR", OBJECT, None),
    "nothing": ("null", "VALIDATION_ERROR", OBJECT, None),
    # JSON
    "empty frame": ("", "INVALID_JSON", JSON, None),
    "half": ('{"type":"chat","content":"x"', "INVALID_JSON", JSON, None),
    "more behind": ('{"type":"ping"} x', "INVALID_JSON", JSON, None),
    "byte order mark": ('\ufeff{"type":"ping"}', "INVALID_JSON", JSON, None),
    "single quotes": ("{'type':'ping'}", "INVALID_JSON", JSON, None),
    "comma": ('{"type":"ping",}', "INVALID_JSON", JSON, None),
    "NaN": ('{"type":"ping","t":NaN}', "INVALID_JSON", JSON, None),
    "01": ('{"type":"ping","t":01}', "INVALID_JSON", JSON, None),
    "lone surrogate": (
        '{"type":"chat","id":"b6","content":"\\ud800"}',
        "VALIDATION_ERROR",
        CONTENT,
        "b6",
    ),
    "half a pair": (
        '{"type":"chat","content":"\\ud83dx","id":"b7"}',
        "VALIDATION_ERROR",
        CONTENT,
        "b7",
    ),
    "half a pair in a field that is none of ours": (
        '{"type":"chat","content":"x","id":"b8","more":"\\ud83dx"}',
        "INVALID_JSON",
        JSON,
        "b8",
    ),
    "cut off behind its id": (
        '{"type":"chat","id":"b9","content":"x',
        "INVALID_JSON",
        JSON,
        "b9",
    ),
    "raw newline": ('{"type":"chat","content":"a\nb"}', "INVALID_JSON", JSON, None),
    "7,000 deep": (deep, "INVALID_JSON", JSON, None),
    # size
    "17 KiB": (
        '{"type":"chat","id":"b5","content":"' + "x" * 17 * 1024 + '"}',
        "TOO_LARGE",
        LARGE,
        "b5",
    ),
}

FINE: dict[str, tuple[str, str]] = {
    "2048 characters": (f'{{"type":"chat","content":"{"x" * 2048}"}}', "x" * 2048),
    "1024 emoji": (f'{{"type":"chat","content":"{"😀" * 1024}"}}', "😀" * 1024),
    "100 deep": (
        '{"type":"chat","content":"x","deep":' + "[" * 100 + "]" * 100 + "}",
        "x",
    ),
    "last of equal keys": ('{"type":"chat","content":"a","content":"b"}', "b"),
    "1,000 unknown keys": (f'{{{many},"type":"chat","content":"x"}}', "x"),
    "prototype": ('{"__proto__":{"a":1},"type":"chat","content":"x"}', "x"),
    "white space around": (' {"type" : "chat", "content" : "x"} \n', "x"),
    "markup": ('{"type":"chat","content":"<b>&\u2028"}', "<b>&\u2028"),
    "a pair": ('{"type":"chat","content":"\\ud83d\\ude00"}', "😀"),
    "tab and newline": ('{"type":"chat","content":"a\\tb\\n"}', "a\tb\n"),
}


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Node]:
    async with live(valkey_url, chat_rate="0") as node:
        yield node


@pytest.fixture(scope="module")
async def room(edge: Node) -> AsyncIterator[tuple[Node, str, Socket]]:
    """Somebody who sees whatever the bad frames do in this room."""
    async with edge.visit() as node:
        name = new_room()
        yield node, name, await node.enter("user_2", name)


async def good(tab: Socket, witness: Socket, since: int) -> None:
    """The next message works, and is all that the witness has seen."""
    seen = len(witness.frames)
    echo = await tab.say(f"good {since}")
    assert await witness.wait("chat", content=f"good {since}") == echo
    assert echo["seq"] == since + 1
    assert [f["type"] for f in witness.frames[seen:]] == ["chat"]


@wire("2 faults", "3 error", "2 chat", "2 id", "2 wink", "2 typing", "2 presence")
async def test_bad_frames_have_exact_answers(
    room: tuple[Node, str, Socket],
) -> None:
    node, name, witness = room
    for number, (case, row) in enumerate(FRAMES.items()):
        frame, code, message, own_id = row
        if number % 18 == 0:  # twenty are abuse
            tab = await node.enter("user_1", name, token=await node.token("user_1"))
            await witness.wait("participants") if number == 0 else None
        last = witness.said[-1] if witness.said else 0
        await tab.raw(frame)
        error = await tab.wait("error")
        fields: dict[str, Any] = {} if own_id is None else {"id": own_id}
        try:
            exactly(
                error,
                code=code,
                message=message,
                content=message,
                retryable=False,
                **fields,
            )
            await good(tab, witness, last)
        except AssertionError as wrong:
            raise AssertionError(f"{case}: {wrong}") from None


@wire("2 unknown fields", "2 chat", "2 size")
@pytest.mark.parametrize("case", FINE)
async def test_what_only_looks_bad_is_taken(
    room: tuple[Node, str, Socket], case: str
) -> None:
    node, name, witness = room
    frame, content = FINE[case]
    tab = await node.enter("user_3", name)
    await tab.raw(frame)
    echo = await tab.wait("chat")
    assert echo["content"] == content
    assert await witness.wait("chat", seq=echo["seq"]) == echo
    await tab.close()


@wire("6 1003", "6 1007")
@pytest.mark.parametrize(("opcode", "code"), [(b"bytes", 1003), ("text", 1007)])
async def test_what_is_no_text(
    room: tuple[Node, str, Socket], opcode: bytes | str, code: int
) -> None:
    node, name, witness = room
    tab = await node.enter("user_4", name)
    if isinstance(opcode, bytes):
        await tab.raw(opcode)
    else:
        await tab.connection.send(b"\xff\xfe", text=True)
    assert await tab.closed() == code
    assert (await witness.say(f"after {code}"))["content"] == f"after {code}"


# Handshakes.


@wire("1 sockets", "1 direct rooms", "1 identity", "1 disagree", "1 AUTH", "1 origin")
async def test_handshakes_that_are_refused(edge: Node) -> None:
    async with edge.visit() as node:
        mine = await node.token("user_1")
        theirs = await node.token("user_2")
        port = node.gateways[0].port
        base = f"ws://127.0.0.1:{port}/api/ws/room"
        bearer = {"Authorization": f"Bearer {mine}"}
        session = await node.gateways[0].services.sessions.get(theirs)
        assert session is not None
        foreign = {"Origin": "https://app.example.evil"}
        rows: list[tuple[str, dict[str, str], tuple[int, str]]] = [
            ("/general", {}, (401, "AUTH_REQUIRED")),
            ("/general?userId=user_1", {}, (401, "AUTH_REQUIRED")),
            ("/general?sessionId=", {}, (401, "AUTH_REQUIRED")),
            ("/general?sessionId=guessed", {}, (401, "AUTH_EXPIRED")),
            (f"/general?sessionId={session.token_hash}", {}, (401, "AUTH_EXPIRED")),
            ("/general?ticket=guessed", {}, (401, "AUTH_EXPIRED")),
            # Another's session id in the query, and one's own in the header.
            (f"/general?sessionId={theirs}", bearer, (401, "AUTH_EXPIRED")),
            (f"/general?sessionId={mine}", foreign, (403, "ORIGIN_NOT_ALLOWED")),
            ("/general", bearer | {"Origin": "null"}, (403, "ORIGIN_NOT_ALLOWED")),
            ("/dm_user_2__user_3", bearer, (403, "NOT_A_PARTICIPANT")),
            ("/dm_user_3__user_2", bearer, (403, "NOT_A_PARTICIPANT")),
            ("/dm_user_1__user_1", bearer, (404, "ROOM_NOT_FOUND")),
            ("/dm_user_1__user_99", bearer, (404, "ROOM_NOT_FOUND")),
            ("/system_x", bearer, (403, "ROOM_RESERVED")),
            ("/General", bearer, (400, "INVALID_ROOM_ID")),
            ("/general?since=-1", bearer, (400, "VALIDATION_ERROR")),
            ("/general?since=1.5", bearer, (400, "VALIDATION_ERROR")),
            ("/general?since=", bearer, (400, "VALIDATION_ERROR")),
            ("/general?since=1&since=2", bearer, (400, "VALIDATION_ERROR")),
        ]
        for path, headers, answer in rows:
            with pytest.raises(Refused) as caught:
                await dial(base + path, additional_headers=headers)
            assert error_of(caught.value) == answer, path
        # Another's session alone is that other's socket, whatever the rest says.
        query = f"sessionId={theirs}&userId=user_1&displayName=Maya"
        stolen = Socket(await dial(f"{base}/{new_room()}?{query}"), "user_2", theirs)
        assert (await stolen.say("who am I?"))["senderId"] == "user_2"
        await stolen.close()


@wire("1 AUTH", "6 4500")
async def test_an_expired_session_opens_nothing(valkey_url: str) -> None:
    async with live(valkey_url, session_ttl="1") as node:
        token = await node.token("user_1")
        await asyncio.sleep(1.1)
        with pytest.raises(Refused) as caught:
            await node.enter("user_1", new_room())
        assert error_of(caught.value) == (401, "AUTH_EXPIRED")
        async with node.gateways[0].client(token) as http:
            refused(await http.get("/api/auth/me"), 401, "AUTH_EXPIRED")


@wire("1 login rate", "1 login")
async def test_the_sixth_login_is_too_many_on_any_gateway(valkey_url: str) -> None:
    async with live(valkey_url, 2) as node:
        headers = {"X-Forwarded-For": "10.99.0.1"}
        clients = [gateway.client() for gateway in node.gateways]
        answers = []
        for i in range(6):
            http = clients[i % 2]
            body = {"userId": f"user_{i + 1}", "token": "any"}
            answers.append(
                await http.post("/api/auth/login", json=body, headers=headers)
            )
        for http in clients:
            await http.aclose()
        assert [answer.status_code for answer in answers[:5]] == [200] * 5
        refused(answers[5], 429, "RATE_LIMITED")
        assert 1 <= int(answers[5].headers["Retry-After"]) <= 10
