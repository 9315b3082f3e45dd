"""A changed display name is the name wherever its owner is shown next."""

import itertools

from tests.gateway.edge import data_of
from tests.gateway.node import Node, eventually, new_room
from tests.wire_rows import wire

_numbers = itertools.count(1)


async def rename(node: Node, user_id: str, gateway: int = 0) -> str:
    name = f"Renamed {next(_numbers)}"
    async with node.gateways[gateway].client(await node.token(user_id)) as http:
        change = {"displayName": name, "personalMessage": name.lower()}
        answer = await http.patch(f"/api/data/users/{user_id}", json=change)
        assert data_of(answer)["displayName"] == name
    return name


async def names(node: Node, gateway: int, user_id: str) -> set[str]:
    """What this gateway calls them, at every place of §1 that does."""
    async with node.gateways[gateway].client(await node.token(user_id)) as http:
        me = data_of(await http.get("/api/auth/me"))
        users = data_of(await http.get("/api/users"))
        accounts = data_of(await http.get("/api/auth/accounts"))
        away = {"status": "online"}
        shown = data_of(await http.post("/api/presence", json=away))
    rows = [me, *(row for row in users + accounts if row["id"] == user_id)]
    assert len(rows) == 3
    return {shown["displayName"], *(row["displayName"] for row in rows)}


@wire("1 data names", "1 User")
async def test_http_calls_them_by_it_at_both_gateways(node: Node) -> None:
    for there in (0, 1):
        name = await rename(node, "user_11", there)
        assert await names(node, there, "user_11") == {name}
        async with node.gateways[there].client(await node.token("user_11")) as http:
            me = data_of(await http.get("/api/auth/me"))
        assert me["personalMessage"] == name.lower()

        async def known(name: str = name, other: int = 1 - there) -> bool:
            return await names(node, other, "user_11") == {name}

        await eventually(known)


@wire("1 data names")
async def test_the_next_socket_is_under_it_at_both_gateways(node: Node) -> None:
    name = await rename(node, "user_12")
    for gateway in (0, 1):
        room = new_room()
        witness = await node.enter("user_13", room)

        async def told(name: str = name, gateway: int = gateway) -> bool:
            directory = node.gateways[gateway].services.directory
            found = directory.person("user_12")
            return found is not None and found.display_name == name

        await eventually(told)
        socket = await node.enter("user_12", room, gateway=gateway)
        await witness.wait("system", content=f"{name} joined the room.")
        said = await socket.say("hello")
        assert said["displayName"] == name
        assert (await witness.wait("chat"))["displayName"] == name
        await socket.close()
        await witness.wait("system", content=f"{name} left the room.")


@wire("1 data names")
async def test_who_sees_them_online_sees_the_new_name(node: Node) -> None:
    watcher = await node.watch("user_14", gateway=1)
    await node.watch("user_15")
    await watcher.wait("presence_join", userId="user_15")
    name = await rename(node, "user_15")
    update = await watcher.wait("presence_update", userId="user_15")
    assert (update["displayName"], update["status"]) == (name, "online")


async def test_a_name_changed_by_somebody_hidden_does_not_show_them(
    node: Node,
) -> None:
    watcher = await node.watch("user_16", gateway=1)
    hidden = await node.watch("user_17")
    await watcher.wait("presence_join", userId="user_17")
    await hidden.send("presence_update", status="offline")
    await watcher.wait("presence_update", userId="user_17", status="offline")
    await rename(node, "user_17")
    await rename(node, "user_18")  # who has no socket
    await node.watch("user_19")
    await watcher.wait("presence_join", userId="user_19")
    later = [frame for frame in watcher.frames if frame.get("status") == "online"]
    assert not [f for f in later if f.get("userId") in ("user_17", "user_18")]
