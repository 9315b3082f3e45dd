"""Every endpoint of the OpenAPI document, fuzzed by schemathesis with all its checks.

It runs beside us as the command that it is, against a live gateway over a real Valkey
and SQLite: the document's examples and, in `make test-long`, the boundaries of its
schemas, random valid and invalid requests and chains of requests by the document's
links. Any 5xx, any status, header or body that the document does not name,
fails.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path

from tests.effort import LONG
from tests.gateway.node import live

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PHASES = ("examples", *(("coverage", "fuzzing", "stateful") if LONG else ()))


async def test_the_gateway_answers_as_its_document_says(
    valkey_url: str, tell: Callable[[str], None]
) -> None:
    async with live(valkey_url, login_rate="0") as node:
        address = f"http://127.0.0.1:{node.gateways[0].port}/api/openapi.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(HERE / "schemathesis.toml")),
            *("run", address, "--checks", "all", "--phases", ",".join(PHASES)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    text = output.decode()
    assert process.returncode == 0, text
    operations = re.search(r"Tested: (\d+)", text)
    cases = re.search(r"(\d+) generated", text)
    assert operations and cases, text
    tell(f"HTTP: {cases[1]} requests to {operations[1]} operations, none off the page")
