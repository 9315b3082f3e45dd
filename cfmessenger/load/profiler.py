"""Where a Python process spends its time, by py-spy where that is installed.

It is no dependency: it needs the right to look into other processes, and people have it
or have not. Without it there is nothing, and nobody fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path

PROGRAM = "py-spy"
SHOWN = 10
GRACE_S = 20.0


def there() -> bool:
    """Whether it is installed."""
    return shutil.which(PROGRAM) is not None


async def functions(pid: int, seconds: float) -> dict[str, float]:
    """The functions that were running, by share of the samples, busiest first; nothing
    if it cannot be seen."""
    program = shutil.which(PROGRAM)
    if program is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="cfm-profile-") as folder:
        path = Path(folder, "raw")
        command = ("record", "--pid", str(pid), "--duration", str(max(1, int(seconds))))
        child = await asyncio.create_subprocess_exec(
            *(program, *command, "--format", "raw", "--nonblocking"),
            *("--output", str(path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(seconds + GRACE_S):
                await child.wait()
        except TimeoutError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        with contextlib.suppress(OSError):
            return shares(await asyncio.to_thread(path.read_text, errors="replace"))
    return {}


def shares(raw: str) -> dict[str, float]:
    """Of collapsed stacks, `outer;inner count` a line: the innermost functions."""
    found: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if stack and count.isdecimal():
            found[stack.rpartition(";")[2]] += int(count)
    total = found.total()
    return {name: round(n / total, 3) for name, n in found.most_common(SHOWN)}
