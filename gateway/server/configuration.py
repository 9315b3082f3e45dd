"""uvicorn as an internet-facing edge: the one way it is configured.

Its two protocols are hardened ones, `http_protocol` and `websocket_protocol`; `door`
counts who may come in at all. Logging is the process's own affair.
"""

from __future__ import annotations

import math
from typing import Any

import uvicorn

from cfmessenger.settings import Settings
from gateway.server.door import Door, connections_allowed
from gateway.server.http_protocol import MAX_HEAD, GuardedHTTP
from gateway.server.websocket_protocol import WebSocket

MAX_WS_MESSAGE = 64 * 1024
"""More is 1009 (wire.md §6)."""


def server_config(app: Any, settings: Settings) -> uvicorn.Config:
    """The one way we run uvicorn. `app` is an application or its import string.

    Logging is left as it is; the process configures it. Clients' addresses are taken
    from `X-Forwarded-For` only behind the proxies of the settings. An address may have
    as many other connections as it may have sockets.
    """
    config = _Config(
        app,
        host=settings.host,
        port=settings.port,
        factory=isinstance(app, str),
        http=GuardedHTTP,
        ws=WebSocket,
        ws_max_size=MAX_WS_MESSAGE,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # the heartbeat is wire.md §6's, not uvicorn's
        ws_ping_timeout=None,
        h11_max_incomplete_event_size=MAX_HEAD,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=max(1, math.ceil(settings.drain_s)),
    )
    config.door = Door(
        per_address=settings.max_sockets_per_address,
        in_all=connections_allowed(),
        proxies=settings.trusted_proxies,
    )
    return config


class _Config(uvicorn.Config):
    door: Door
