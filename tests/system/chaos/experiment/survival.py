"""What happens to a machine in a year, under load: a folder that cannot be written, a
full disk, a cleaner in /tmp, a process that hangs. It heals by itself, and nothing
that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from cfmessenger.cli import process
from cfmessenger.cli.process import Entry
from tests.system.chaos import history as h
from tests.system.chaos.experiment.scene import Disk, Scene, scene

ROOMS = 3
SEATS = 4
RATE = 60.0
DISK_MIB = 24
PAUSE_S = 3.0
FULL_S = 8.0
HEALED_S = 10.0
HUNG_S = 46.0

Hurt = Callable[[Scene], Awaitable[None]]


async def _run(seed: int, *hurts: Hurt, disk: Disk | None = None, **env: str) -> bool:
    more = {"CFM_GATEWAYS": "2", **env}
    async with scene(ROOMS * SEATS + 1, seed, disk, **more) as s:
        for n in range(ROOMS * SEATS):
            await s.chatter(f"c{n}", n, f"room-{n % ROOMS}")
        await s.connected()
        talk = s.talk(s.chatters, RATE)
        forgiven: set[str] = set()
        for hurt in hurts:
            await asyncio.sleep(PAUSE_S)
            s.say(f"{hurt.__name__.strip('_')}:")
            await hurt(s)
            if hurt in (_hung, _hung_gateway):
                # Who is on it is answered by the next one, and has "left" meanwhile.
                forgiven |= {"unanswered", "phantom_line"}
        await asyncio.sleep(PAUSE_S)
        talk.cancel()
        s.expect(await s.settled(40.0), "not everything was answered")
        await s.read_logs()
        found = [each for each in s.verdict() if each.rule not in forgiven]
        s.expect(not found, "the checker's verdict")
        return not s.failed


async def immutable(seed: int) -> bool:
    return await _run(seed, _immutable)


async def full(seed: int) -> bool:
    return await _run(seed, _full, disk=_small_disk, CFM_FSYNC="always")


async def full_everysec(seed: int) -> bool:
    return await _run(seed, _full, disk=_small_disk, CFM_FSYNC="everysec")


async def cleaned(seed: int) -> bool:
    return await _run(seed, _cleaned)


async def hung(seed: int) -> bool:
    return await _run(seed, _hung)


async def year(seed: int) -> bool:
    """All of it, one after the other; of what may hang only a gateway."""
    return await _run(
        seed, _immutable, _full, _cleaned, _hung_gateway, disk=_small_disk
    )


async def _immutable(s: Scene) -> None:
    """The data folder takes no new file while Valkey is killed, again and again."""
    _set_immutable(s.messenger.data, True)
    try:
        for _ in range(3):
            row = await _child(s, "valkey")
            t = time.monotonic()
            s.messenger.send(row, signal.SIGKILL)
            await _another(s, "valkey", row)
            s.history.add(h.Fault(t, time.monotonic(), "kill-valkey", "valkey"))
            end = time.monotonic() + PAUSE_S
            while time.monotonic() < end:
                servers = s.messenger.command("valkey-server")
                s.expect(len(servers) <= 1, f"{len(servers)} servers at once")
                await asyncio.sleep(0.05)
    finally:
        _set_immutable(s.messenger.data, False)
    await _all_speak(s, time.monotonic(), "the folder was writable")


async def _full(s: Scene) -> None:
    """No space left, with a Valkey that then ends (always) or refuses (everysec)."""
    t = time.monotonic()
    filler = s.messenger.data / "filler"
    await asyncio.to_thread(_fill, filler)
    await asyncio.sleep(FULL_S)
    await asyncio.to_thread(filler.unlink)
    await _all_speak(s, time.monotonic(), "there was space")
    s.history.add(h.Fault(t, time.monotonic(), "full-disk (valkey)", "data"))


async def _cleaned(s: Scene) -> None:
    """The folder of sockets is deleted; the clients' own sockets stay open."""
    t = time.monotonic()
    await asyncio.to_thread(shutil.rmtree, s.messenger.runtime)
    # One who enters a room that was never awake needs all that was deleted.
    late = await s.chatter("late", ROOMS * SEATS, "room-new")
    await asyncio.wait_for(late.connected.wait(), 60.0)
    s.say(f"a new room opened {time.monotonic() - t:.1f} s after the deletion")
    await late.say()
    await _all_speak(s, t, "the folder was deleted")
    s.history.add(h.Fault(t, time.monotonic(), "clean-tmp (valkey)", "runtime"))


async def _hung_gateway(s: Scene) -> None:
    await _stop_for_good(s, "gateway-0")


async def _hung(s: Scene) -> None:
    """What there is is stopped, one after the other, and never continued."""
    await _stop_for_good(s, "gateway-0", "namespace", "valkey", "gcs_server", "raylet")


async def _stop_for_good(s: Scene, *names: str) -> None:
    for name in names:
        row = s.messenger.descendant(name) or await _child(s, name)
        ports = s.messenger.ports(row) if name == "gateway-0" else set()
        bound = [f"{each.name}/{each.socket}" for each in s.on(ports)]
        t = time.monotonic()
        s.messenger.send(row, signal.SIGSTOP)
        while process.wait_gone([row], 0):
            await asyncio.sleep(0.1)
            if time.monotonic() - t > HUNG_S:
                return s.expect(False, f"{name} is not replaced")
        s.say(f"{name} was replaced after {time.monotonic() - t:.1f} s")
        s.expect(await s.messenger.ready(60.0), f"not ready after {name}")
        until = time.monotonic()
        s.history.add(h.Fault(t, until, f"stop-{name}", name, [], bound))
        await _all_speak(s, until, f"{name} was ready")


async def _child(s: Scene, name: str) -> Entry:
    while (row := s.messenger.child(name)) is None:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return row


async def _another(s: Scene, name: str, before: Entry) -> None:
    while await _child(s, name) == before:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def _all_speak(s: Scene, since: float, what: str) -> None:
    """Until in each room something said since then is acknowledged."""
    while True:
        rooms = {ok.room for ok in s.history.all(h.Ok) if ok.t > since}
        if len(rooms) >= ROOMS:
            break
        if time.monotonic() > since + 6 * HEALED_S:
            break
        await asyncio.sleep(0.05)
    took = time.monotonic() - since
    s.say(
        f"every room acknowledged again {took:.1f} s after {what} (the start took "
        f"{s.messenger.start_s:.1f} s)"
    )
    # Where nothing else runs a start takes 4 s, and the longest healing is one of Ray;
    # what a busy machine makes of a start it makes of a healing too.
    soon = max(HEALED_S, 3 * s.messenger.start_s)
    s.expect(took < soon, f"acknowledged only {took:.1f} s after {what}")


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _set_immutable(folder: Path, yes: bool) -> None:
    subprocess.run(["chattr", "+i" if yes else "-i", str(folder)], check=True)


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700)
    size = f"size={DISK_MIB}m,mode=700"
    command = ["mount", "-t", "tmpfs", "-o", size, "cfm-test", str(folder)]
    subprocess.run(command, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def possible() -> bool:
    """Whether we may mount and make immutable."""
    return os.geteuid() == 0
