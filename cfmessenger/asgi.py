"""The gateway as an ordinary ASGI application: `uvicorn --factory
cfmessenger.asgi:app`.

The composition root of a gateway process: settings from the environment, the namespace
server's address from `CFMX_NAMESPACE` (`unix:<path>`, or `tcp://host:port` or `cluster`
with their key in `CFMX_NAMESPACE_KEY`, or in the file that `CFMX_NAMESPACE_KEY_FILE`
names). `cfmessenger up` sets both and runs it hardened
(gateway.server.configuration); under a bare uvicorn the application is the same and the
edge is uvicorn's own, but for sockets: they need
`--ws gateway.server.websocket_protocol:WebSocket`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from starlette.applications import Starlette

from cfmessenger.accounts.users import Directory
from cfmessenger.data.names import Names
from cfmessenger.data.store import Store
from cfmessenger.environment import SettingsError, variable, with_secrets
from cfmessenger.link.namespace import Namespace, NamespaceClient
from cfmessenger.settings import Settings
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.storage.members import Finder, Members
from cfmessenger.storage.valkey import Valkey
from cfmessenger.tls import Trust
from gateway.api.hub import Data
from gateway.app import create_app
from gateway.live.sockets import Sockets

NAMESPACE = "CFMX_NAMESPACE"
NAMESPACE_KEY = "CFMX_NAMESPACE_KEY"
CLUSTER = "cluster"
NODE_ADDRESS = "CFMX_NODE_ADDRESS"


def app() -> Starlette:
    """The application of this process's environment. Raises `SettingsError`."""
    settings = Settings.load(os.environ)
    if settings.valkey_url is None:
        raise SettingsError("CFM_VALKEY_URL: a gateway by itself needs it")
    return build(settings, namespace_from(os.environ, settings))


def namespace_from(env: Mapping[str, str], settings: Settings) -> NamespaceClient:
    """The namespace servers that the environment names, or with `cluster` those that
    Valkey does. Raises `SettingsError`."""
    url = env.get(NAMESPACE)
    if not url:
        raise SettingsError(f"{NAMESPACE}: a gateway by itself needs it")
    key = with_secrets(env, [NAMESPACE_KEY]).get(NAMESPACE_KEY, "")
    trust = None if settings.tls is None else Trust(settings.tls)
    if url != CLUSTER:
        return NamespaceClient(url, key, trust=trust)
    if settings.valkey_url is None:
        raise SettingsError(f"{variable('valkey_url')}: a gateway by itself needs it")
    finder = Finder(Members(Valkey(settings.valkey_url)), env.get(NODE_ADDRESS, ""))
    return NamespaceClient(finder.find, key, trust=trust)


def build(settings: Settings, namespace: Namespace) -> Starlette:
    """An application on this namespace, whichever it is. Raises `SettingsError`."""
    assert settings.valkey_url is not None
    log = ValkeyLog(settings.valkey_url, settings.log_length, shown=True)
    return create_app(
        settings,
        lambda services: Sockets(services, namespace, log),
        log,
        sql_of(settings),
    )


def sql_of(settings: Settings) -> Data:
    """The collections, in the database of these settings. Raises `SettingsError`."""
    store = Store.of(settings)

    def made(kv: Valkey, directory: Directory) -> tuple[Store, Names]:
        return store, Names(store, kv, directory)

    return made
