"""How a command finds the messenger: the one that runs on this machine, or a cluster.

Owns the names of what a start leaves in its runtime folder for other commands, what
`--cluster` means, and what is said when nothing is there. Must not start anything.
"""

from __future__ import annotations

import contextlib
import hmac
import os
from pathlib import Path

from cfmessenger.cli import local_ray, process
from cfmessenger.cli.flags import settings_or_exit
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.environment import SettingsError, with_secrets
from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import NamespaceClient
from cfmessenger.settings import Settings
from cfmessenger.storage.members import Finder, Holder, Members
from cfmessenger.storage.valkey import Valkey
from cfmessenger.tls import Files, Trust, why

SERVER_FILE = "server.url"
VALKEY_FILE = "valkey.url"
NAMESPACE_SOCKET = "namespace.sock"
NAMESPACE_KEY = "CFMX_NAMESPACE_KEY"

FOLDERS = ("", "node", "gateway", "head")
"""Below the data folder: `up`'s, and the roles', which may share a machine."""


async def namespace_of(settings: Settings) -> NamespaceClient:
    """A client of the cluster that `--cluster` names, by one of its servers or by its
    Valkey; else of the messenger or the node on the data folder; else of the cluster of
    `CFM_VALKEY_URL`. Raises `Unavailable` if there is none."""
    url = settings.cluster
    if url is not None and url.startswith("tcp://"):
        key = shown_key()
        if not key:
            raise Unavailable(message=f"{NAMESPACE_KEY}: a server by TCP needs its key")
        return NamespaceClient(url, key, trust=trust_of(settings))
    if url is None:
        with contextlib.suppress(Unavailable):
            return NamespaceClient(namespace_at(settings))
        url = settings.valkey_url
    if url is None:
        raise _nothing(settings)
    members = Members(Valkey(url))
    secret = await members.secret()
    return NamespaceClient(
        Finder(members).find, namespace_key(secret), trust=trust_of(settings)
    )


def shown_key() -> str:
    """The namespace's, where the environment or a file has it; else empty. Raises
    `Unavailable` for a file that cannot be used."""
    try:
        return with_secrets(os.environ, [NAMESPACE_KEY]).get(NAMESPACE_KEY, "")
    except SettingsError as error:
        raise Unavailable(message=str(error)) from None


def trust_of(settings: Settings) -> Trust | None:
    """By which other machines are reached. Raises `Unavailable` for files that cannot
    be used."""
    if settings.tls is None:
        return None
    trust = Trust(settings.tls)
    try:
        trust.calling()
    except OSError as error:
        raise Unavailable(message=f"CFM_TLS_*: {why(error)}") from None
    return trust


async def ray_of(url: str, tls: Files | None = None) -> tuple[str, dict[str, str]]:
    """Where the Ray of the cluster on this Valkey is, and what a driver needs in its
    environment. Raises `Unavailable` if there is no head."""
    kv = Valkey(url)
    try:
        members = Members(kv)
        head = await members.head(Holder("", "")).read()
        secret = await members.secret()
    finally:
        kv.close()
    if head is None:
        raise Unavailable(message="the cluster has no head")
    return head.address, local_ray.token_env(secret) | local_ray.tls_env(tls)


def namespace_at(settings: Settings) -> str:
    """Address of the namespace server of the messenger on the data folder. Raises
    `Unavailable` if none runs there."""
    for runtime in _runtimes(settings):
        if (socket := runtime / NAMESPACE_SOCKET).exists():
            return f"unix:{socket}"
    raise _nothing(settings)


def valkey_of(settings: Settings, file: str = VALKEY_FILE) -> str:
    """The Valkey of the cluster that is named, or of these settings, or the embedded
    one of the messenger on the data folder (its URL is in `file`). Raises `Unavailable`
    if none runs there."""
    if settings.cluster is not None and not settings.cluster.startswith("tcp://"):
        return settings.cluster
    if settings.valkey_url is not None:
        return settings.valkey_url
    for runtime in _runtimes(settings):
        with contextlib.suppress(OSError):
            return (runtime / file).read_text().strip()
    raise _nothing(settings)


def server_url() -> str:
    """Where `CFM_HOST` and `CFM_PORT` say; else where the messenger on the data folder
    listens; else where one would."""
    settings = settings_or_exit()
    if not (os.environ.get("CFM_HOST") or os.environ.get("CFM_PORT")):
        for runtime in _runtimes(settings):
            with contextlib.suppress(OSError):
                return (runtime / SERVER_FILE).read_text().strip()
    return url_of(settings.host, settings.port)


def serving_pid() -> int | None:
    """The process that began the messenger on the data folder, if one runs there and
    the environment names no other."""
    settings = settings_or_exit()
    if os.environ.get("CFM_HOST") or os.environ.get("CFM_PORT"):
        return None
    try:
        found = process.holders((settings.data_dir / "lock").stat())
    except OSError:
        return None
    return found[0] if found else None


def url_of(host: str, port: int) -> str:
    """For a client on this machine of what listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def namespace_key(secret: str) -> str:
    """What gateways show to namespace servers; made of the cluster's secret."""
    return hmac.digest(secret.encode(), b"namespace", "sha256").hex()


def _runtimes(settings: Settings) -> list[Path]:
    return [RuntimeFolder(settings.data_dir / each).path for each in FOLDERS]


def _nothing(settings: Settings) -> Unavailable:
    return Unavailable(
        message=f"No messenger runs on {settings.data_dir}; --cluster names one "
        "elsewhere, by its Valkey's URL."
    )
