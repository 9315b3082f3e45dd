"""How a command finds the messenger that runs on this machine.

Owns the names of what `up` leaves in its runtime folder for other commands, and what is
said when nothing is there. Must not start anything.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cfmessenger.cli.flags import settings_or_exit
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings

SERVER_FILE = "server.url"
VALKEY_FILE = "valkey.url"
NAMESPACE_SOCKET = "namespace.sock"


def namespace_at(settings: Settings) -> str:
    """Address of the namespace server of the messenger on the data folder. Raises
    `Unavailable` if none runs there."""
    socket = _runtime(settings) / NAMESPACE_SOCKET
    if not socket.exists():
        raise _nothing(settings)
    return f"unix:{socket}"


def valkey_of(settings: Settings) -> str:
    """The Valkey of these settings, or the embedded one of the messenger on the data
    folder. Raises `Unavailable` if none runs there."""
    if settings.valkey_url is not None:
        return settings.valkey_url
    try:
        return (_runtime(settings) / VALKEY_FILE).read_text().strip()
    except OSError:
        raise _nothing(settings) from None


def server_url() -> str:
    """Where `CFM_HOST` and `CFM_PORT` say; else where the messenger on the data folder
    listens; else where one would."""
    settings = settings_or_exit()
    if not (os.environ.get("CFM_HOST") or os.environ.get("CFM_PORT")):
        with contextlib.suppress(OSError):
            return (_runtime(settings) / SERVER_FILE).read_text().strip()
    return url_of(settings.host, settings.port)


def url_of(host: str, port: int) -> str:
    """For a client on this machine of what listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _runtime(settings: Settings) -> Path:
    return RuntimeFolder(settings.data_dir).path


def _nothing(settings: Settings) -> Unavailable:
    return Unavailable(message=f"No messenger runs on {settings.data_dir}.")
