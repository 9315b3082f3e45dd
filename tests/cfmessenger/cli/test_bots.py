"""`cfmessenger bots` against a Valkey that is there, and one that is not."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest
import valkey

from cfmessenger.accounts.users import Directory
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.storage import keys
from tests import patience

BOTS = Directory.load().bots
FIRST, SECOND = BOTS[0], BOTS[1]


async def bots(*args: str, folder: Path, **env: str) -> tuple[int, str, str]:
    """Exit code and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cfmessenger", "bots", *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.getcwd(),
            "COLUMNS": "200",
            **env,
        },
    )
    async with patience.within(20):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def stored(empty_valkey: str, admin_valkey: valkey.Valkey) -> valkey.Valkey:
    """A day on which the first bot was busy."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    figures = {
        "rotations": 2,
        "mentions": 12,
        "replies": 8,
        "refused_quota_user": 3,
        "refused_busy": 1,
        "tokens": 512,
        "latency_ms": 20_000,
        "latency_count": 8,
    }
    admin_valkey.hset(
        keys.bots_metrics(today),
        mapping={f"{FIRST.id}:{name}": amount for name, amount in figures.items()},
    )
    admin_valkey.set(keys.bots_quota(today), 11)
    admin_valkey.sadd(keys.BOTS_ACTIVE, FIRST.id)
    line = [bot.id for bot in BOTS[1:]] + [FIRST.id]
    admin_valkey.set(keys.BOTS_LINE, " ".join(line))
    return admin_valkey


def clock(hour: int) -> str:
    return time.strftime("%H:%M", time.localtime(hour * 3600))


async def test_the_table_has_a_row_for_every_persona(
    stored: valkey.Valkey, valkey_url: str, tmp_path: Path
) -> None:
    before = time.time()
    code, out, err = await bots(folder=tmp_path, CFM_VALKEY_URL=valkey_url)
    assert (code, err) == (0, "")
    _, *table, _ = out.splitlines()
    rows = {line.split()[0]: " ".join(line.split()) for line in table}
    assert set(rows) == {bot.id for bot in BOTS}
    names = f"{FIRST.id} {FIRST.display_name}"
    figures = "12 8 512 2.5 s 1 busy, 3 quota_user"
    # The hour may end between.
    hours = {int(now // 3600) for now in (before, time.time())}
    assert rows[FIRST.id] in {
        f"{names} until {clock(hour + 1)} {figures}" for hour in hours
    }
    for n, bot in enumerate(BOTS[1:], 1):
        turns = {f" from {clock(hour + n)} 0 0 0 -" for hour in hours}
        assert any(turn in rows[bot.id] for turn in turns), "one of them an hour"
    assert out.endswith("bots are on; 11 of 10000 answers used today\n")


async def test_rows_for_programs(
    stored: valkey.Valkey, valkey_url: str, tmp_path: Path
) -> None:
    code, out, _ = await bots("--json", folder=tmp_path, CFM_VALKEY_URL=valkey_url)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == len(BOTS)
    turns_at = rows[0].pop("turnsAt")
    assert 0 < turns_at - time.time() * 1000 + 60_000 <= 3_660_000
    assert rows[0] == {
        "id": FIRST.id,
        "displayName": FIRST.display_name,
        "inRotation": True,
        "rotations": 2,
        "mentions": 12,
        "replies": 8,
        "refusals": {"quota_user": 3, "busy": 1},
        "tokens": 512,
        "meanLatencyMs": 2500,
        "quota": 0.08,
    }
    assert rows[1]["turnsAt"] >= turns_at
    assert rows[1]["meanLatencyMs"] is None and not rows[1]["inRotation"]


async def test_the_switch_is_found_through_the_data_folder(
    stored: valkey.Valkey, valkey_url: str, tmp_path: Path
) -> None:
    """As `up` leaves it there; nothing but the folder is needed."""
    runtime = RuntimeFolder(tmp_path / ".cfmessenger")
    runtime.open()
    try:
        (runtime.path / "valkey.url").write_text(valkey_url)
        assert await bots("off", folder=tmp_path) == (0, "bots are off\n", "")
        assert stored.get(keys.BOT_ENABLED) == b"0"
        _, out, _ = await bots("--json", folder=tmp_path)
        assert not any(json.loads(line)["inRotation"] for line in out.splitlines())
        assert await bots("on", folder=tmp_path) == (0, "bots are on\n", "")
        assert stored.get(keys.BOT_ENABLED) == b"1"
    finally:
        runtime.remove()


async def test_without_a_messenger_it_says_so(tmp_path: Path) -> None:
    for args in ((), ("off",)):
        code, out, err = await bots(*args, folder=tmp_path)
        assert (code, out) == (1, "")
        assert err == (
            f"cfmessenger: No messenger runs on {tmp_path}/.cfmessenger; --cluster "
            "names one elsewhere, by its Valkey's URL.\n"
        )


async def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    code, out, err = await bots("perhaps", folder=tmp_path)
    assert (code, out) == (2, "") and "Usage: " in err
    code, out, err = await bots(folder=tmp_path, CFM_BOT_QUOTA_ROOM="0")
    assert (code, out) == (3, "") and "CFM_BOT_QUOTA_ROOM" in err
    code, _, err = await bots(
        folder=tmp_path, CFM_USERS="/nowhere", CFM_VALKEY_URL="unix:///x"
    )
    assert code == 3 and "CFM_USERS" in err
