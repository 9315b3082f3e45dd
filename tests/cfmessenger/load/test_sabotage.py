"""A line between harness and gateway that misbehaves: the run fails, and says how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cfmessenger.cli.load import exit_code
from cfmessenger.load.result import read
from tests.cfmessenger.load.target import BadLine, command, gateway, load
from tests.effort import long_only

AT = 20


class _Nth:
    """Passes everything on but for one moment."""

    def __init__(self, n: int, act: Callable[[list[bytes]], list[bytes]]) -> None:
        self._left = n
        self._act = act

    def __call__(self, waiting: list[bytes]) -> list[bytes]:
        self._left -= 1
        if self._left == 0:
            passed = self._act(waiting)
            if not passed and self._act is _drop:
                waiting.clear()
            return passed
        if self._left == -1 and len(waiting) == 2:
            return waiting[::-1]
        return list(waiting)


def _drop(waiting: list[bytes]) -> list[bytes]:
    return []


def _double(waiting: list[bytes]) -> list[bytes]:
    return [*waiting, *waiting]


def _keep(waiting: list[bytes]) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    ("act", "fault"),
    [(_drop, "lost"), (_double, "duplicated"), (_keep, "reordered")],
    ids=["lost", "duplicated", "reordered"],
)
async def test_one_fault_on_one_socket_is_found_as_what_it_is(
    valkey_url: str,
    act: Callable[[list[bytes]], list[bytes]],
    fault: str,
) -> None:
    async with gateway(valkey_url) as direct:
        # Socket 0 is the one that asks whether the room may be.
        async with BadLine(port_of(direct), 2, _Nth(AT, act)).open() as url:
            result = await load("fanout", url, sockets=4, rate=60.0)
    oracle = result.oracle
    faults = {
        name: getattr(oracle, name)
        for name in ("lost", "duplicated", "reordered", "gaps")
    }
    assert faults == {name: int(name == fault) for name in faults}
    assert oracle.examples
    assert exit_code(result) == 1


async def test_a_socket_that_hears_nothing_any_more_is_noticed(
    valkey_url: str,
) -> None:
    def go_silent(waiting: list[bytes]) -> list[bytes]:
        return [] if b"-m" in waiting[-1] else list(waiting)  # of what counts

    async with gateway(valkey_url) as direct:
        async with BadLine(port_of(direct), 2, go_silent).open() as url:
            result = await load("fanout", url, sockets=4, rate=20.0)
    # All of them; its own count twice, for it never saw its answer either.
    assert result.oracle.lost >= result.counts["sent"]
    assert result.oracle.duplicated == result.oracle.reordered == 0


@long_only
async def test_the_command_fails_with_the_oracle_s_own_code(
    valkey_url: str, tmp_path: Path
) -> None:
    found = tmp_path / "result.json"
    async with gateway(valkey_url) as direct:
        async with BadLine(port_of(direct), 2, _Nth(AT, _drop)).open() as url:
            ran = await command(
                *("fanout", "--url", url, "--sockets", "4", "--rate", "60"),
                *("--duration", "1", "--warmup", "0", "--max-lag", "60000"),
                *("--json", str(found), "--expect", "p99<1us"),
            )
    assert ran.code == 1, ran.err
    assert read(found).oracle.lost == 1
    assert "lost" in ran.out


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
