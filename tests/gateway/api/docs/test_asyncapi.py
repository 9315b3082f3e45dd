"""The AsyncAPI document: valid by the official schema, complete, and true to a room."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from cfmessenger.errors import CloseCode
from cfmessenger.wire import protocol
from cfmessenger.wire.events import Event
from gateway.api.docs import asyncapi
from tests.gateway.edge import gateway
from tests.gateway.node import Node, Socket, live
from tests.wire_rows import wire

Json = dict[str, Any]

SCHEMA = Path(__file__).parents[3] / "vendor" / "asyncapi" / "schema-3.0.0.json"
DOCUMENT = asyncapi.document()


def payload(name: str) -> jsonschema.Draft202012Validator:
    schema = DOCUMENT["components"]["messages"][name]["payload"]
    return jsonschema.Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}
    )


@wire("1 documents")
def test_the_official_schema_takes_it() -> None:
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    assert not [error.message for error in validator.iter_errors(DOCUMENT)]
    broken = {**DOCUMENT, "channels": {"room": {"adress": "/typo"}}}
    assert list(validator.iter_errors(broken))


@wire("1 documents")
def test_every_frame_of_the_wire_is_a_message() -> None:
    tag = [kind.__struct_config__.tag for kind in get_args(protocol.RoomFrame)]
    tag += [kind.__struct_config__.tag for kind in get_args(protocol.PresenceFrame)]
    kinds = get_args(protocol.ServerFrame | Event)
    told = [kind.__struct_config__.tag for kind in kinds]
    assert set(DOCUMENT["components"]["messages"]) == {
        *(f"client.{kind}" for kind in tag),
        *(f"server.{kind}" for kind in told),
    }


def test_every_message_travels_on_a_channel_and_in_an_operation() -> None:
    sent = set()
    for operation in DOCUMENT["operations"].values():
        reply = operation.get("reply", {}).get("messages", [])
        sent |= {each["$ref"] for each in [*operation["messages"], *reply]}
    on_channels = {
        f"#/channels/{name}/messages/{message}"
        for name, channel in DOCUMENT["channels"].items()
        for message in channel["messages"]
    }
    assert sent == on_channels
    assert {each.rpartition("/")[2] for each in sent} == set(
        DOCUMENT["components"]["messages"]
    )


@pytest.mark.parametrize("name", DOCUMENT["components"]["messages"])
def test_an_example_fits_its_schema(name: str) -> None:
    [example] = DOCUMENT["components"]["messages"][name]["examples"]
    assert not list(payload(name).iter_errors(example["payload"]))
    assert list(payload(name).iter_errors({"type": "something else"}))


def test_a_clients_examples_are_taken_as_they_are() -> None:
    for name, channel in DOCUMENT["channels"].items():
        read = {
            "room": protocol.decode_room_frame,
            "presence": protocol.decode_presence_frame,
        }[name]
        for message in channel["messages"]:
            if message.startswith("client."):
                [example] = DOCUMENT["components"]["messages"][message]["examples"]
                read(json.dumps(example["payload"]).encode())


def test_every_code_is_named() -> None:
    closes = {each["code"] for each in DOCUMENT["x-close-codes"]}
    assert closes == {int(code) for code in CloseCode}
    assert set(DOCUMENT["x-error-codes"]) == {
        "INVALID_JSON",
        "VALIDATION_ERROR",
        "RATE_LIMITED",
        "TOO_LARGE",
        "UNKNOWN_TYPE",
        "ID_REUSED",
        "STORAGE_UNAVAILABLE",
        "INTERNAL_ERROR",
    }
    final = {
        each["code"] for each in DOCUMENT["x-close-codes"] if not each["reconnect"]
    }
    assert final == {1002, 1003, 1007, 1009, 4500, 4501, 4503, 4508}


@pytest.fixture(scope="module")
async def node(valkey_url: str) -> AsyncIterator[Node]:
    async with live(valkey_url) as running:
        yield running


@wire("1 documents")
async def test_what_a_room_says_is_what_the_document_says(node: Node) -> None:
    async with node.visit() as here:
        room = "dm_user_1__user_2"
        await (await here.enter("user_2", room)).say("before")
        maya, tom = await here.enter("user_1", room), await here.enter("user_2", room)
        listening = await here.watch("user_2")
        echo = await maya.say("hello", id="m-1")
        await maya.send("nudge")
        await maya.send("wink", winkId="pig")
        await maya.send("typing", isTyping=True)
        await maya.send("presence", status="busy", displayName="Maya")
        await maya.send("ping", t=1)
        await maya.send("shout", id="m-2")
        await tom.wait("chat", id="m-1")
        await tom.send("ack", ackId=echo["id"], status="read")
        await maya.wait("delivery_status")
        await maya.has("error")
        await tom.has("typing")
        await listening.wait("message_notification")
        await listening.wait("presence_update")
        kinds = set()
        for socket in (maya, tom, listening):
            kinds |= checked(socket)
        assert kinds >= {
            *("system", "history", "participants", "chat", "nudge", "wink", "typing"),
            *("delivery_status", "error", "pong", "presence_full_sync"),
            *("presence_update", "message_notification"),
        }


def checked(socket: Socket) -> set[str]:
    for frame in socket.frames:
        problems = list(payload(f"server.{frame['type']}").iter_errors(frame))
        assert not problems, (frame, problems)
    return {frame["type"] for frame in socket.frames}


@wire("1 documents")
async def test_it_is_served_with_a_tag(valkey_url: str) -> None:
    async with gateway(valkey_url) as running, running.client() as http:
        first = await http.get("/api/asyncapi.json")
        assert first.status_code == 200
        assert first.json() == DOCUMENT
        known = {"If-None-Match": first.headers["etag"]}
        again = await http.get("/api/asyncapi.json", headers=known)
        assert (again.status_code, again.content) == (304, b"")
