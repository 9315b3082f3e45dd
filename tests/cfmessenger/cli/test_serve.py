"""A gateway whose start fails says why in one sentence, whatever it was."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import asyncio, os
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from cfmessenger.cli import serve
from cfmessenger.cli.voice import Voice
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings

@asynccontextmanager
async def away(app):
    raise Unavailable(message="Valkey cannot be reached.")
    yield

async def start():
    app = Starlette(lifespan=away)
    serve._explained(app, Settings.load(os.environ), Voice())
    async with app.router.lifespan_context(app):
        pass

asyncio.run(start())
"""


def test_what_is_back_before_it_is_asked_for_is_one_line_too(
    valkey_url: str, tmp_path: Path
) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
    env |= {"CFM_VALKEY_URL": valkey_url, "CFM_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=env
    )
    assert done.returncode == 1  # not uvicorn's 3, which means bad settings here
    assert done.stderr == (
        "cfmessenger: what it needs was away for a moment: "
        "UNAVAILABLE: Valkey cannot be reached.\n"
    )
