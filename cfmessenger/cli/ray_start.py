"""Ray's own command line, as it is run here: nothing secret is in an argument of what
it starts, and no more listens than is needed.

Run in a process of its own, by `local_ray`; what it changes are Ray's insides of the
version that is locked. Must not start anything by itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import wraps
from typing import Any

MORE = "CFMX_RAY_ARGUMENTS"
"""Further arguments, a line each, where `ps` does not see them."""

_SECRET = ("redis_username", "redis_password")


def hidden(command: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A command of Ray's without the values of secret flags, and the environment in
    which its flags find them: gflags reads `FLAGS_x` for a flag in `--fromenv`."""
    left, env = [], {}
    for argument in command:
        flag, _, value = argument.removeprefix("--").partition("=")
        if flag in _SECRET:
            env[f"FLAGS_{flag}"] = value
        else:
            left.append(argument)
    if env:
        names = (name.removeprefix("FLAGS_") for name in env)
        left.append(f"--fromenv={','.join(names)}")
    return left, env


def main() -> None:
    """`ray`, with the arguments of this process."""
    # Where grpc can be imported, `ray start` also starts the Ray Client's server, on a
    # fixed port, and has no switch against it. Ray itself does without that package.
    sys.modules["grpc"] = None  # type: ignore[assignment]
    sys.argv += filter(None, os.environ.pop(MORE, "").split("\n"))
    from ray._private import services
    from ray.scripts.scripts import main as ray

    start: Any = services.start_ray_process
    raylet: Any = services.start_raylet

    @wraps(start)
    def start_ray_process(command: Sequence[str], *args: Any, **more: Any) -> Any:
        left, env = hidden(command)
        if env:
            more["env_updates"] = {**(more.get("env_updates") or {}), **env}
        return start(left, *args, **more)

    @wraps(raylet)
    def start_raylet(*args: Any, **more: Any) -> Any:
        # It would hand them to workers, in their arguments; none of them needs Valkey.
        return raylet(*args, **(more | dict.fromkeys(_SECRET)))

    services.start_ray_process = start_ray_process
    services.start_raylet = start_raylet
    ray()  # type: ignore[no-untyped-call]
