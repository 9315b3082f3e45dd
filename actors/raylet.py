"""This node's raylet as a process: when it ends, and which actors it runs.

Asked of the system, not of Ray: it has to work while Ray's control store is away.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]

ACTOR_TITLE = "ray::ObjectActor"
"""How Ray calls the process of an actor of ours."""


class Raylet:
    """The raylet that listens on this Unix socket. Raises LookupError if this process
    cannot see it (another PID namespace)."""

    def __init__(self, socket: str) -> None:
        self.socket = Path(socket)
        flag = f"--raylet_socket_name={socket}"
        for each in psutil.process_iter():
            try:
                if flag in each.cmdline():
                    self._process = each
                    return
            except psutil.Error:
                continue
        raise LookupError(f"no process here listens on {socket}")

    async def ended(self) -> None:
        """Returns once its process is gone."""
        try:
            pidfd = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()

        def ended() -> None:
            loop.remove_reader(pidfd)
            gone.set_result(None)

        loop.add_reader(pidfd, ended)
        try:
            await gone
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)

    def actors(self) -> list[psutil.Process]:
        """The processes of actors of ours that it has started."""
        found = []
        try:
            children = self._process.children()
        except psutil.Error:
            return []
        for each in children:
            try:
                if " ".join(each.cmdline()).startswith(ACTOR_TITLE):
                    found.append(each)
            except psutil.Error:
                continue
        return found
