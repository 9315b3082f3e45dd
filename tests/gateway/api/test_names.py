"""One name, one status: every place agrees, whichever way it was changed.

A table of ways to change by places to look, each cell a test. Two gateways, so that the
place is never the one where the change was made.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec.structs import replace

import gateway.live.people
from cfmessenger.errors import Unavailable
from cfmessenger.ids import PRESENCE
from cfmessenger.placement import Placement
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey
from gateway.live.stub import Stub
from tests.gateway.edge import data_of, refused
from tests.gateway.node import (
    Frame,
    Node,
    Socket,
    eventually,
    everywhere,
    live,
    new_room,
)
from tests.wire_rows import wire

pytestmark = everywhere

WITNESS = "user_2"
_people = itertools.cycle(f"user_{n}" for n in range(3, 21))
_names = itertools.count(1)


@pytest.fixture(scope="module")
async def drowsy(valkey_url: str, placement: Placement | None) -> AsyncIterator[Node]:
    """Two gateways whose objects go to sleep soon."""
    async with live(valkey_url, 2, hibernate_after="0.3") as node:
        yield node


@pytest.fixture
async def user_id(node: Node) -> str:
    """Somebody whose name was not changed within the last minute, who chose nothing."""
    chosen = next(_people)
    kv = node.gateways[0].services.kv
    await kv.ask("DEL", keys.words(chosen))
    return chosen


def shows(frame: Frame, user_id: str, **fields: str) -> bool:
    """Whether a `participants` or a full sync shows somebody like this."""
    return any(
        who["id"] == user_id and who.items() >= fields.items()
        for who in frame["participants"]
    )


# Ways to change a name, always at gateway 0.

Change = Callable[[Node, str, str], Awaitable[None]]


async def by_patch(node: Node, user_id: str, name: str) -> None:
    async with node.gateways[0].client(await node.token(user_id)) as http:
        body = {"displayName": name, "personalMessage": f"I am {name}"}
        data_of(await http.patch(f"/api/data/users/{user_id}", json=body))


async def by_post(node: Node, user_id: str, name: str) -> None:
    async with node.gateways[0].client(await node.token(user_id)) as http:
        body = {
            "status": "online",
            "displayName": name,
            "personalMessage": f"I am {name}",
        }
        answer = data_of(await http.post("/api/presence", json=body))
        assert answer == {"status": "online", "displayName": name}


async def by_room_frame(node: Node, user_id: str, name: str) -> None:
    socket = await node.enter(user_id, new_room())
    words = {"displayName": name, "personalMessage": f"I am {name}"}
    await socket.send("presence", status="online", **words)


async def by_presence_frame(node: Node, user_id: str, name: str) -> None:
    socket = await node.watch(user_id)
    words = {"displayName": name, "personalMessage": f"I am {name}"}
    await socket.send("presence_update", status="online", **words)


WAYS = [by_patch, by_post, by_room_frame, by_presence_frame]

# Places to look, at gateway 1 unless said. Each is asked before the change for whatever
# must be there already, and returns what to ask afterwards.

Look = Callable[[str], Awaitable[None]]
Place = Callable[[Node, str], Awaitable[Look]]


def words_of(name: str) -> dict[str, str]:
    return {"displayName": name, "personalMessage": f"I am {name}"}


async def _listed(node: Node, user_id: str, path: str, name: str) -> bool:
    async with node.gateways[1].client(await node.token(user_id)) as http:
        found = data_of(await http.get(path))
    rows = found if isinstance(found, list) else [found]
    [row] = [row for row in rows if row["id"] == user_id]
    return bool(row.items() >= words_of(name).items())


async def contact_list(node: Node, user_id: str) -> Look:
    return lambda name: eventually(lambda: _listed(node, user_id, "/api/users", name))


async def accounts(node: Node, user_id: str) -> Look:
    path = "/api/auth/accounts"
    return lambda name: eventually(lambda: _listed(node, user_id, path, name))


async def me(node: Node, user_id: str) -> Look:
    path = "/api/auth/me"
    return lambda name: eventually(lambda: _listed(node, user_id, path, name))


async def row(node: Node, user_id: str) -> Look:
    path = f"/api/data/users/{user_id}"
    return lambda name: eventually(lambda: _listed(node, user_id, path, name))


async def posted_presence(node: Node, user_id: str) -> Look:
    async def shown(name: str) -> bool:
        async with node.gateways[1].client(await node.token(user_id)) as http:
            body = {"status": "online"}
            answer = data_of(await http.post("/api/presence", json=body))
        return bool(answer["displayName"] == name)

    return lambda name: eventually(lambda: shown(name))


async def presence_list(node: Node, user_id: str) -> Look:
    watcher = await node.watch(WITNESS, gateway=1)
    await node.watch(user_id, gateway=1)

    async def look(name: str) -> None:
        await watcher.wait("presence_update", userId=user_id, **words_of(name))

    return look


async def presence_list_of_a_latecomer(node: Node, user_id: str) -> Look:
    await node.watch(user_id, gateway=1)
    first = await node.watch(WITNESS, gateway=1)

    async def look(name: str) -> None:
        await first.wait("presence_update", userId=user_id, displayName=name)
        late = await node.connect(WITNESS, "/api/ws/presence", gateway=1)
        sync = await late.wait("presence_full_sync")
        assert shows(sync, user_id, **words_of(name))

    return look


async def _open_room(node: Node, user_id: str, room: str) -> Look:
    witness = await node.enter(WITNESS, room)
    theirs = await node.enter(user_id, room, gateway=1)

    async def look(name: str) -> None:
        for socket in (witness, theirs):
            await socket.wait(
                "participants", lambda f: shows(f, user_id, **words_of(name))
            )
        assert (await theirs.say("hello"))["displayName"] == name

    return look


async def open_room(node: Node, user_id: str) -> Look:
    return await _open_room(node, user_id, new_room())


async def open_direct_room(node: Node, user_id: str) -> Look:
    ids = sorted([WITNESS, user_id])
    return await _open_room(node, user_id, f"dm_{'__'.join(ids)}")


async def room_on_the_same_gateway(node: Node, user_id: str) -> Look:
    room = new_room()
    tabs = [await node.enter(user_id, room), await node.enter(user_id, room)]

    async def look(name: str) -> None:
        for tab in tabs:
            await tab.wait(
                "participants", lambda f: shows(f, user_id, **words_of(name))
            )

    return look


async def room_entered_later(node: Node, user_id: str) -> Look:
    directory = node.gateways[1].services.directory

    def known(name: str) -> bool:
        found = directory.person(user_id)
        return found is not None and found.display_name == name

    async def look(name: str) -> None:
        await eventually(lambda: known(name))
        room = new_room()
        witness = await node.enter(WITNESS, room)
        await node.enter(user_id, room, gateway=1)
        await witness.wait("system", content=f"{name} joined the room.")
        here = await witness.wait("participants", lambda f: shows(f, user_id))
        assert shows(here, user_id, **words_of(name))

    return look


PLACES = [
    contact_list,
    accounts,
    me,
    row,
    posted_presence,
    presence_list,
    presence_list_of_a_latecomer,
    open_room,
    open_direct_room,
    room_on_the_same_gateway,
    room_entered_later,
]


def by_name(function: Callable[..., object]) -> str:
    return function.__name__


@wire("1 data names", "1 presence", "2 presence", "3 participants", "4 changes")
@pytest.mark.parametrize("place", PLACES, ids=by_name)
@pytest.mark.parametrize("way", WAYS, ids=by_name)
async def test_a_changed_name(
    node: Node, user_id: str, way: Change, place: Place
) -> None:
    look = await place(node, user_id)
    name = f"Name {next(_names)}"
    await way(node, user_id, name)
    await look(name)


@wire("1 data names", "2 presence", "4 changes")
@pytest.mark.parametrize("way", WAYS, ids=by_name)
async def test_a_room_that_sleeps_is_not_woken_and_knows_when_it_wakes(
    drowsy: Node, user_id: str, way: Change
) -> None:
    async with drowsy.visit() as node:
        room = new_room()
        witness = await node.enter(WITNESS, room)
        theirs = await node.enter(user_id, room, gateway=1)
        await node.asleep(f"room:{room}")
        epoch = node.hub(1).stubs.by_name[f"room:{room}"].epoch
        name = f"Name {next(_names)}"
        await way(node, user_id, name)
        stub = node.hub(1).stubs.by_name[f"room:{room}"]
        await eventually(
            lambda: stub._audience.held[_conn(stub, user_id)].display_name == name
        )
        assert (stub.life.asleep, stub.epoch) == (True, epoch)
        assert (await theirs.say("hello"))["displayName"] == name
        await witness.wait(
            "participants", lambda f: shows(f, user_id, **words_of(name))
        )


@wire("4 changes")
@pytest.mark.parametrize("change", [by_patch, by_post], ids=by_name)
async def test_a_contact_list_is_told_though_nobody_was_awake(
    drowsy: Node, user_id: str, change: Change
) -> None:
    async with drowsy.visit() as node:
        watcher = await node.watch(WITNESS, gateway=1)
        await node.watch(user_id)
        await node.asleep(PRESENCE)
        name = f"Name {next(_names)}"
        await change(node, user_id, name)
        await watcher.has("presence_update", userId=user_id, displayName=name)


def _conn(stub: Stub, user_id: str) -> str:
    [conn] = [c for c, held in stub._audience.held.items() if held.user_id == user_id]
    return conn


@wire("1 data names")
async def test_a_room_that_slept_before_anybody_came_shows_the_new_name(
    drowsy: Node, user_id: str
) -> None:
    async with drowsy.visit() as node:
        room = new_room()
        theirs = await node.enter(user_id, room)
        old = (await theirs.say("before"))["displayName"]
        await node.asleep(f"room:{room}")
        name = f"Name {next(_names)}"
        await by_patch(node, user_id, name)
        late = await node.enter(WITNESS, room, gateway=1)
        [history] = late.of("history")
        # "Messages keep the name they were said under."
        assert [m["displayName"] for m in history["messages"]] == [old]
        await eventually(
            lambda: shows(late.of("participants")[-1], user_id, displayName=name)
        )


async def test_an_older_copy_does_not_come_back(node: Node, user_id: str) -> None:
    """A gateway that has not heard of the change holds a socket of theirs too."""
    room = new_room()
    witness = await node.enter(WITNESS, room)
    await node.enter(user_id, room)
    name = f"Name {next(_names)}"
    await by_patch(node, user_id, name)
    await witness.wait("participants", lambda f: shows(f, user_id, displayName=name))
    directory = node.gateways[1].services.directory
    await eventually(lambda: directory.person(user_id).display_name == name)
    connection = node.hub(0).people.by_user[user_id][0]
    stale = node.hub(0).people.worded(connection.conn, user_id)
    connection.room.change(connection, replace(stale, display_name="Old", words_at=1))
    await witness.say("after that")
    await node.enter(user_id, room, gateway=1)
    late = await node.enter("user_1", room)
    assert shows(late.of("participants")[-1], user_id, displayName=name)
    assert not shows(late.of("participants")[-1], user_id, displayName="Old")


# When it cannot be.


@wire("1 presence", "3 error")
async def test_more_than_five_changes_a_minute_are_refused_and_change_nothing(
    node: Node, user_id: str
) -> None:
    for n in range(5):
        await WAYS[n % 2](node, user_id, f"Often {n}")
    socket = await node.enter(user_id, new_room(), gateway=1)
    watcher = await node.watch(user_id, gateway=1)
    directory = node.gateways[1].services.directory
    await eventually(lambda: directory.person(user_id).display_name == "Often 4")
    await socket.send("presence", status="busy", displayName="Too often")
    error = await socket.wait("error")
    assert (error["code"], error["retryable"]) == ("RATE_LIMITED", True)
    assert 0 < error["retryAfterMs"] <= 60_000
    await watcher.send("presence_update", status="away", displayName="Too often")
    assert (await watcher.wait("error"))["code"] == "RATE_LIMITED"
    async with node.gateways[1].client(await node.token(user_id)) as http:
        body = {"displayName": "Too often"}
        answer = await http.patch(f"/api/data/users/{user_id}", json=body)
        refused(answer, 429, "RATE_LIMITED")
        assert int(answer.headers["Retry-After"]) <= 60
        post = {"status": "away"}
        refused(await http.post("/api/presence", json=post | body), 429, "RATE_LIMITED")
        # What changes nothing costs nothing; the status is not the name's hostage.
        same = {"displayName": "Often 4"}
        data_of(await http.patch(f"/api/data/users/{user_id}", json=same))
        answer = data_of(await http.post("/api/presence", json=post | same))
        assert answer == {"status": "away"} | same
    await socket.wait(
        "participants",
        lambda f: shows(f, user_id, displayName="Often 4", status="away"),
    )


@wire("1 presence", "3 error")
async def test_a_bad_word_is_refused_by_every_way(node: Node, user_id: str) -> None:
    room = await node.enter(user_id, new_room())
    watcher = await node.watch(user_id)
    bad = [
        ("displayName", "\u202eevil"),
        ("displayName", " "),
        ("personalMessage", "two\nlines"),
        ("personalMessage", "x" * 201),
        ("personalMessage", " \u200b "),
    ]
    async with node.gateways[0].client(await node.token(user_id)) as http:
        for field, text in bad:
            sent = {"status": "busy", field: text}
            await room.send("presence", **sent)
            await watcher.send("presence_update", **sent)
            for socket in (room, watcher):
                error = await socket.wait("error")
                assert error["code"] == "VALIDATION_ERROR", (field, text)
                assert error["message"].startswith(field)
            answer = await http.post("/api/presence", json=sent)
            refused(answer, 400, "VALIDATION_ERROR")
            answer = await http.patch(f"/api/data/users/{user_id}", json={field: text})
            refused(answer, 400, "VALIDATION_ERROR")
        assert data_of(await http.get("/api/auth/me"))["status"] == "online"


async def test_a_name_that_cannot_be_written_stays_the_old_one(
    node: Node, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise Unavailable()

    socket = await node.enter(user_id, new_room())
    before = await _name(node, user_id)
    monkeypatch.setattr(node.gateways[0].services.store, "change", away)
    await socket.send("presence", status="busy", displayName="Lost")
    error = await socket.wait("error")
    assert error["code"] == "STORAGE_UNAVAILABLE"
    async with node.gateways[0].client(await node.token(user_id)) as http:
        body = {"status": "busy", "displayName": "Lost"}
        refused(await http.post("/api/presence", json=body), 503, "UNAVAILABLE")
    await socket.wait("participants", lambda f: shows(f, user_id, status="busy"))
    assert await _name(node, user_id) == before
    assert shows(socket.of("participants")[-1], user_id, displayName=before)


async def _name(node: Node, user_id: str) -> str:
    async with node.gateways[0].client(await node.token(user_id)) as http:
        found: str = data_of(await http.get("/api/auth/me"))["displayName"]
        return found


async def test_a_picture_is_changed_by_patch(node: Node, user_id: str) -> None:
    room = new_room()
    witness = await node.enter(WITNESS, room, gateway=1)
    watcher = await node.watch(WITNESS, gateway=1)
    await node.enter(user_id, room)
    async with node.gateways[0].client(await node.token(user_id)) as http:
        body = {"avatarId": "guitar"}
        answer = data_of(await http.patch(f"/api/data/users/{user_id}", json=body))
        assert answer["avatarId"] == "guitar"
        answer = await http.patch(
            f"/api/data/users/{user_id}", json={"avatarId": "No!"}
        )
        refused(answer, 400, "VALIDATION_ERROR")
    await watcher.wait("presence_update", userId=user_id, avatarId="guitar")
    await witness.wait("participants", lambda f: shows(f, user_id, avatarId="guitar"))


# Status.

Choose = Callable[[Node, str, str], Awaitable[None]]


async def choose_by_post(node: Node, user_id: str, status: str) -> None:
    async with node.gateways[0].client(await node.token(user_id)) as http:
        answer = data_of(await http.post("/api/presence", json={"status": status}))
        assert answer["status"] == status


async def choose_in_a_room(node: Node, user_id: str, status: str) -> None:
    socket = await node.enter(user_id, new_room())
    await socket.send("presence", status=status)


async def choose_on_the_presence_socket(node: Node, user_id: str, status: str) -> None:
    socket = await node.watch(user_id)
    await socket.send("presence_update", status=status)


CHOICES = [choose_by_post, choose_in_a_room, choose_on_the_presence_socket]


async def listed_status(node: Node, user_id: str, status: str) -> bool:
    async with node.gateways[1].client() as http:
        people = data_of(await http.get("/api/users"))
    [found] = [who["status"] for who in people if who["id"] == user_id]
    return bool(found == status)


@wire("2 presence", "3 participants", "4 online", "4 offline", "4 rooms")
@pytest.mark.parametrize("status", ["busy", "away", "offline"])
@pytest.mark.parametrize("way", CHOICES, ids=by_name)
async def test_a_chosen_status_is_shown_everywhere(
    node: Node, user_id: str, way: Choose, status: str
) -> None:
    watcher = await node.watch(WITNESS, gateway=1)
    rooms = [new_room(), f"dm_{'__'.join(sorted([WITNESS, user_id]))}"]
    witnesses = [await node.enter(WITNESS, room, gateway=0) for room in rooms]
    devices = [await node.enter(user_id, room, gateway=1) for room in rooms]
    await way(node, user_id, status)
    await watcher.wait("presence_update", userId=user_id, status=status)
    for socket in [*witnesses, *devices]:
        await socket.wait("participants", lambda f: shows(f, user_id, status=status))
    await eventually(lambda: listed_status(node, user_id, status))
    # A room that is entered later shows it in its first frame.
    late = await node.enter(user_id, new_room(), gateway=1)
    [first] = late.of("participants")[:1]
    assert shows(first, user_id, status=status)
    async with node.gateways[1].client(await node.token(user_id)) as http:
        assert data_of(await http.get("/api/auth/me"))["status"] == status


async def _told_anything(watcher: Socket, user_id: str, node: Node) -> list[Frame]:
    """What a watcher was told about somebody, by the time it was told of another."""
    marker = await node.watch("user_1")
    for status in ("away", "online"):
        await marker.send("presence_update", status=status)
        await watcher.wait("presence_update", userId="user_1", status=status)
    return [
        frame
        for frame in watcher.frames
        if frame.get("userId") == user_id
        or (frame["type"] == "presence_full_sync" and shows(frame, user_id))
    ]


@wire("1 presence", "4 offline")
@pytest.mark.parametrize("first", ["room", "presence"])
async def test_who_appears_offline_before_a_slow_line_is_never_shown(
    node: Node, user_id: str, first: str
) -> None:
    await eventually(lambda: listed_status(node, user_id, "offline"))
    room = new_room()
    watcher = await node.watch(WITNESS, gateway=1)
    witness = await node.enter(WITNESS, room)
    await choose_by_post(node, user_id, "offline")
    if first == "room":
        await node.enter(user_id, room, gateway=1)
        await node.watch(user_id)
    else:
        await node.watch(user_id, gateway=1)
        await node.enter(user_id, room)
    await witness.wait("participants", lambda f: shows(f, user_id))
    for frame in witness.of("participants"):
        assert not shows(frame, user_id) or shows(frame, user_id, status="offline")
    assert await _told_anything(watcher, user_id, node) == []
    assert await listed_status(node, user_id, "offline")


@wire("4 offline")
@pytest.mark.parametrize("first", ["room", "presence"])
@pytest.mark.parametrize("way", CHOICES, ids=by_name)
async def test_a_choice_survives_a_blip_whichever_socket_returns_first(
    node: Node, user_id: str, way: Choose, first: str
) -> None:
    room = new_room()
    witness = await node.enter(WITNESS, room)
    sockets = [await node.enter(user_id, room, gateway=1), await node.watch(user_id)]
    await way(node, user_id, "offline")
    await witness.wait("participants", lambda f: shows(f, user_id, status="offline"))
    watcher = await node.watch(WITNESS, gateway=1)
    async with node.visit() as again:
        for hub in (node.hub(0), node.hub(1)):
            for connection in list(hub.people.by_user.get(user_id, ())):
                connection.wire.fail(1012, "a blip")
        for socket in sockets:
            await socket.closed()
        await witness.wait("participants", lambda f: not shows(f, user_id))
        witness.frames.clear()
        witness._seen = 0
        if first == "room":
            await again.enter(user_id, room, gateway=0)
        await again.watch(user_id, gateway=1)
        await again.enter(user_id, room, gateway=0)
        await witness.wait("participants", lambda f: shows(f, user_id))
        for frame in witness.of("participants"):
            assert not shows(frame, user_id) or shows(frame, user_id, status="offline")
        assert await _told_anything(watcher, user_id, node) == []


@wire("4 offline")
async def test_a_choice_survives_the_registry(node: Node, user_id: str) -> None:
    socket = await node.watch(user_id, gateway=1)
    await socket.send("presence_update", status="offline")
    kv, key = node.gateways[0].services.kv, keys.presence(user_id)

    async def written() -> bool:
        return bool(await kv.ask("HGET", key, "chosen") == b"offline")

    await eventually(written)
    await node.kill(PRESENCE)
    watcher = await node.watch(WITNESS)
    # With sockets: their gateways remember. Without any: the key does.
    assert await _told_anything(watcher, user_id, node) == []
    await socket.close()
    await eventually(lambda: _gone(kv, key))
    assert await written()
    await node.kill(PRESENCE)
    watcher = await node.watch(WITNESS)
    room = await node.enter(user_id, new_room(), gateway=0)
    assert shows(room.of("participants")[0], user_id, status="offline")
    assert await _told_anything(watcher, user_id, node) == []


@wire("4 offline")
async def test_a_choice_that_was_answered_survives_a_registry_that_dies_writing_it(
    node: Node, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody has a socket of theirs, so nobody remembers but the registry and the key.
    await node.watch(WITNESS)  # the registry is there
    killing: list[asyncio.Task[None]] = []

    def dies() -> None:
        if not killing:
            killing.append(asyncio.create_task(node.kill(PRESENCE)))
        raise Unavailable

    _at_a_write(node, monkeypatch, dies)
    await choose_by_post(node, user_id, "offline")
    await asyncio.gather(*killing)
    assert killing
    watcher = await node.watch(WITNESS)
    room = await node.enter(user_id, new_room(), gateway=1)
    assert shows(room.of("participants")[0], user_id, status="offline")
    assert await _told_anything(watcher, user_id, node) == []


@wire("4 offline")
async def test_a_choice_that_is_not_written_is_not_answered_with_yes(
    node: Node, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.watch(WITNESS)

    def refused_write() -> None:
        raise Unavailable

    with monkeypatch.context() as patch:
        _at_a_write(node, patch, refused_write)
        patch.setattr(gateway.live.people, "WRITTEN_WITHIN_S", 0.3)
        async with node.gateways[0].client(await node.token(user_id)) as http:
            answer = await http.post("/api/presence", json={"status": "busy"})
        refused(answer, 503, "UNAVAILABLE")
    await choose_by_post(node, user_id, "busy")


def _at_a_write(
    node: Node, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]
) -> None:
    """At the next write of the registry, and of whoever shares its process."""

    def reached(point: str) -> None:
        if point == "before_derived":
            happens()

    for host in node.namespace.hosts:
        if PRESENCE in host.objects:
            monkeypatch.setattr(host.derived, "_reached", reached)


async def _gone(kv: Valkey, key: str) -> bool:
    return await kv.ask("HGET", key, "status") is None


async def test_a_choice_that_a_room_alone_remembers_reaches_the_registry(
    drowsy: Node, user_id: str
) -> None:
    """The registry has died before it wrote it, after one gateway was told."""
    async with drowsy.visit() as node:
        room = new_room()
        theirs = await node.enter(user_id, room)
        await node.enter(user_id, room, gateway=1)
        watcher = await node.watch(WITNESS, gateway=1)
        await node.asleep(PRESENCE)
        await theirs.say("I am awake")
        connection = node.hub(0).people.by_user[user_id][0]
        known = connection.attachment
        status = "away" if known.status == "busy" else "busy"
        told = replace(known, status=status, status_at=known.status_at + 1)
        connection.room.change(connection, told)
        await theirs.say("and it is told")
        await watcher.wait("presence_update", userId=user_id, status=status)
        await eventually(lambda: connection.attachment.status == status)
        assert await listed_status(node, user_id, status)


@wire("4 offline")
async def test_a_choice_survives_the_registrys_sleep(
    drowsy: Node, user_id: str
) -> None:
    async with drowsy.visit() as node:
        await choose_by_post(node, user_id, "away")
        await node.asleep(PRESENCE)
        room = await node.enter(user_id, new_room(), gateway=1)
        assert shows(room.of("participants")[0], user_id, status="away")
        await room.say("I am awake")
        await choose_by_post(node, user_id, "busy")
        await room.say("still")
        await room.wait("participants", lambda f: shows(f, user_id, status="busy"))


@wire("4 rooms")
async def test_a_sleeping_room_shows_a_status_when_it_wakes(
    drowsy: Node, user_id: str
) -> None:
    async with drowsy.visit() as node:
        room = new_room()
        witness = await node.enter(WITNESS, room)
        theirs = await node.enter(user_id, room, gateway=1)
        await node.asleep(f"room:{room}")
        await choose_by_post(node, user_id, "busy")
        stub = node.hub(1).stubs.by_name[f"room:{room}"]
        await eventually(
            lambda: stub._audience.held[_conn(stub, user_id)].status == "busy"
        )
        assert stub.life.asleep
        await theirs.say("hello")
        await witness.wait("participants", lambda f: shows(f, user_id, status="busy"))


@wire("2 presence", "4 rooms")
async def test_a_room_in_which_it_is_said_wakes_and_shows_it(
    drowsy: Node, user_id: str
) -> None:
    async with drowsy.visit() as node:
        room = new_room()
        witness = await node.enter(WITNESS, room)
        theirs = await node.enter(user_id, room, gateway=1)
        await node.asleep(f"room:{room}")
        name = f"Name {next(_names)}"
        await theirs.send("presence", status="away", displayName=name)
        await witness.wait(
            "participants",
            lambda f: shows(f, user_id, status="away", displayName=name),
        )
