"""The embedded server: who may do what, and what survives its death."""

import asyncio
import os
import re
import resource
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cfmessenger.cli import process
from cfmessenger.cli.embedded_valkey import COMMANDS, EmbeddedValkey
from cfmessenger.cli.runtime import (
    DataFolder,
    InUse,
    LockedFolder,
    Refused,
    RuntimeFolder,
)
from cfmessenger.errors import Unavailable
from cfmessenger.storage import valkey
from cfmessenger.storage.valkey import Valkey
from tests.patience import Stopwatch


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    folder = RuntimeFolder(tmp_path)
    folder.open()
    yield folder.path
    folder.remove()


@asynccontextmanager
async def running(
    data: Path, runtime: Path, fsync: str = "always"
) -> AsyncIterator[tuple[EmbeddedValkey, subprocess.Popen[bytes]]]:
    with DataFolder(data) as folder:
        embedded = EmbeddedValkey(folder, runtime, fsync)
        service = embedded.service
        launch = service.launch()
        popen = process.spawn(
            launch.command,
            launch.env,
            death_signal=service.death_signal,
            inherit=launch.handed,
            output=launch.output,
        )
        for fd in launch.handed:
            os.close(fd)
        try:
            assert service.probe is not None
            watch = Stopwatch()
            while not await service.probe():
                assert popen.poll() is None and watch.seconds < 10
            yield embedded, popen
        finally:
            popen.terminate()
            popen.wait(10)


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Valkey]:
    kv = Valkey(url)
    try:
        yield kv
    finally:
        kv.close()


async def test_only_our_keys_channels_and_commands(
    tmp_path: Path, runtime: Path
) -> None:
    async with running(tmp_path, runtime) as (embedded, _), client(embedded.url) as kv:
        assert await kv.require_version()
        assert await kv.ask("SET", "cfm:x", "1", "EX", 10)
        assert await kv.ask("PUBLISH", "cfm:x", "1") == 0
        for refused in (
            "FLUSHALL",
            "CONFIG GET *",
            "EVAL return(1) 0",
            "KEYS *",
            "SCAN 0",
            "ACL LIST",
            "SHUTDOWN",
            "GET other",
            "PUBLISH other 1",
            "XREAD STREAMS other 0",
            "REPLICAOF NO ONE",
            "CLIENT LIST",
        ):
            with pytest.raises(valkey.Refused) as caught:
                await kv.ask(*refused.split())
            assert "permission" in str(caught.value.__cause__), refused


async def test_the_clients_send_no_more_than_they_are_told(
    tmp_path: Path, runtime: Path
) -> None:
    """No HELLO, no CLIENT: a library that began with it would be refused everywhere."""
    async with running(tmp_path, runtime) as (embedded, _), client(embedded.url) as kv:
        await kv.require_version()
        await kv.multi("cfm:x", ("GET", "cfm:x"))
        heard = kv.listen("cfm:x")
        assert await anext(heard) is None
        counted = await kv.info("commandstats")
    sent = {name.removeprefix("cmdstat_") for name in counted}
    sent -= {"config|get"}  # the server's own, when it starts: we may not
    assert sent == {"auth", "ping", "info", "multi", "get", "exec", "subscribe"}


async def test_every_listed_command_exists(tmp_path: Path, runtime: Path) -> None:
    # An unknown name in an ACL rule would stop the server from starting at all.
    assert len(set(COMMANDS)) == len(COMMANDS)
    async with running(tmp_path, runtime) as (embedded, _), client(embedded.url) as kv:
        assert await kv.ask("PING")


@pytest.mark.parametrize("user", ["", "cfm:wrong@", "default:x@"])
async def test_nobody_else_gets_in(user: str, tmp_path: Path, runtime: Path) -> None:
    async with running(tmp_path, runtime):
        async with client(f"unix://{user}{runtime}/valkey.sock") as kv:
            with pytest.raises(Unavailable):
                await kv.ask("GET", "cfm:x")


async def test_nothing_secret_is_readable_or_in_arguments(
    tmp_path: Path, runtime: Path
) -> None:
    async with running(tmp_path, runtime) as (embedded, popen):
        password = embedded.url.partition("@")[0].rpartition(":")[2]
        assert len(password) == 64
        for name in ("valkey.conf", "valkey.url"):
            assert stat.S_IMODE((runtime / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((runtime / "valkey.sock").stat().st_mode) == 0o700
        assert password not in (runtime / "valkey.conf").read_text()
        for shown in (f"/proc/{popen.pid}/cmdline", f"/proc/{popen.pid}/environ"):
            with open(shown) as file:  # noqa: ASYNC230 (nothing else runs here)
                assert password not in file.read()
        log = tmp_path / "logs" / "valkey.log"
        assert "Ready to accept connections unix" in log.read_text()
        assert "tcp" not in log.read_text()


async def test_what_was_answered_survives_a_kill(tmp_path: Path, runtime: Path) -> None:
    async with running(tmp_path, runtime) as (embedded, popen):
        async with client(embedded.url) as kv:
            for n in range(1, 51):
                await kv.ask("XADD", "cfm:{room:a}:log", f"1-{n}", "e", n)
        popen.send_signal(signal.SIGKILL)
        popen.wait(10)
    async with running(tmp_path, runtime) as (embedded, _), client(embedded.url) as kv:
        assert len(await kv.ask("XRANGE", "cfm:{room:a}:log", "-", "+")) == 50
        with pytest.raises(valkey.Refused) as caught:
            await kv.ask("XADD", "cfm:{room:a}:log", "1-50", "e", 0)
        assert "equal or smaller" in str(caught.value.__cause__)


async def test_fsync_is_what_the_setting_says(tmp_path: Path, runtime: Path) -> None:
    async with running(tmp_path, runtime, "everysec"):
        assert "appendfsync everysec\n" in (runtime / "valkey.conf").read_text()


async def test_it_dies_with_us_but_writes_first(tmp_path: Path, runtime: Path) -> None:
    with DataFolder(tmp_path) as folder:
        service = EmbeddedValkey(folder, runtime, "everysec").service
    assert service.death_signal == signal.SIGTERM


async def test_it_holds_its_folder_as_long_as_it_lives(
    tmp_path: Path, runtime: Path
) -> None:
    """Whatever those who start it believe, there is one server on a folder."""
    async with running(tmp_path, runtime) as (_, popen):
        with DataFolder(tmp_path / "elsewhere") as other:
            (other.path / "valkey").symlink_to(tmp_path / "valkey")
            # Looked through, so refused for what it is.
            with pytest.raises(Refused, match="not a folder of ours"):
                EmbeddedValkey(other, runtime, "always").service.launch()
        with pytest.raises(InUse, match=f"in use by process {popen.pid}$"):
            LockedFolder(tmp_path / "valkey")
        popen.send_signal(signal.SIGKILL)
        popen.wait(10)
        os.close(LockedFolder(tmp_path / "valkey").fd)


async def test_it_does_not_start_empty_over_what_is_there(
    tmp_path: Path, runtime: Path
) -> None:
    async with running(tmp_path, runtime) as (embedded, _):
        async with client(embedded.url) as kv:
            await kv.ask("SET", "cfm:x", "1")
    files = tmp_path / "valkey" / "appendonlydir"
    (files / "appendonly.aof.manifest").rename(tmp_path / "manifest")
    with pytest.raises(Refused, match=r"but not appendonly\.aof\.manifest"):
        async with running(tmp_path, runtime):
            pass
    (tmp_path / "manifest").rename(files / "appendonly.aof.manifest")
    async with running(tmp_path, runtime) as (embedded, _):
        async with client(embedded.url) as kv:
            assert await kv.ask("GET", "cfm:x") == b"1"


async def test_the_reason_names_the_damaged_file_and_a_remedy_that_works(
    tmp_path: Path, runtime: Path
) -> None:
    async with running(tmp_path, runtime) as (embedded, _):
        async with client(embedded.url) as kv:
            await kv.ask("SET", "cfm:x", "1")
    file = tmp_path / "valkey" / "appendonlydir" / "appendonly.aof.1.incr.aof"
    with file.open("ab") as tail:
        tail.write(b"garbage\r\n")
    with DataFolder(tmp_path) as folder:
        service = EmbeddedValkey(folder, runtime, "always").service
        launch = service.launch()
        popen = process.spawn(
            launch.command,
            launch.env,
            death_signal=service.death_signal,
            output=launch.output,
        )
        for fd in launch.handed:
            os.close(fd)
        assert service.reason is not None
        why = service.reason(popen.wait(10))
    assert "Bad file format" in why and str(tmp_path / "logs" / "valkey.log") in why
    assert "\n" not in why
    fix = re.findall(r"bash -c '(.*?)'", why)[1]
    assert str(file) in fix
    yes = {"input": b"y\n", "check": True, "capture_output": True}
    await asyncio.to_thread(subprocess.run, ["bash", "-c", fix], **yes)
    async with running(tmp_path, runtime) as (embedded, _):
        async with client(embedded.url) as kv:
            assert await kv.ask("GET", "cfm:x") == b"1"


async def test_a_full_disk_is_found_before_everything_is_loaded(
    tmp_path: Path, runtime: Path
) -> None:
    with DataFolder(tmp_path) as folder:
        launch = EmbeddedValkey(folder, runtime, "always").service.launch
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(OSError) as caught:
                launch()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.filename == str(tmp_path / "valkey")
        assert not list((tmp_path / "valkey").glob(".space*"))
