"""Every HTTP endpoint, one row each: what routing needs and what a reader is told.

`app.py` routes by this table and `docs/openapi.py` describes it, so an endpoint that
exists is documented and a documented one exists. Rows are wire.md §1's, in its order;
those of `/api/data` come from the registry of collections (`docs/collections.py`). The
errors every endpoint shares, those of a session and those of a body are added by what a
row says about itself and are not repeated in it.
"""

from __future__ import annotations

from cfmessenger.errors import Where, codes
from cfmessenger.wire.protocol import RoomInfo, User
from gateway.api import endpoints, payloads
from gateway.api.docs import examples, pages
from gateway.api.docs.operation import MAX_15_DIGITS, Operation, Parameter

ROOM_ID = Parameter(
    "id",
    "path",
    "The room: `general`, `music`, or a direct room `dm_<a>__<b>` (ids sorted).",
    {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"},
    "general",
)
_SEQ = {"type": "integer", "minimum": 1, "maximum": MAX_15_DIGITS}
BEFORE = Parameter("before", "query", "Only messages below this `seq`.", _SEQ, 120)
LIMIT = Parameter(
    "limit",
    "query",
    "How many messages; what is out of 1-100 is clamped.",
    {
        "type": "integer",
        "minimum": -MAX_15_DIGITS,
        "maximum": MAX_15_DIGITS,
        "default": 100,
    },
    50,
)
SINCE = Parameter(
    "since",
    "query",
    "The last `seq` this client has: exactly what came after it is sent.",
    {"type": "integer", "minimum": 0, "maximum": MAX_15_DIGITS},
    117,
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path="/api/config",
        endpoint=endpoints.config,
        name="getConfig",
        tag="Sessions",
        summary="What a browser needs before it signs in",
        data=payloads.Config,
        example=examples.CONFIG,
    ),
    Operation(
        method="POST",
        path="/api/auth/login",
        endpoint=endpoints.login,
        name="login",
        tag="Sessions",
        summary="Sign in",
        description=(
            "`token` is what Turnstile gave the browser; the widget's own name for "
            "it, `cf-turnstile-response`, is taken too. At most 5 logins in 10 s "
            "from one address."
        ),
        request=endpoints.LoginRequest,
        request_example=examples.LOGIN,
        data=payloads.LoggedIn,
        example=examples.LOGGED_IN,
        errors=(
            "TURNSTILE_REQUIRED",
            "TURNSTILE_FAILED",
            "USER_NOT_FOUND",
            "RATE_LIMITED",
            "TURNSTILE_UNAVAILABLE",
        ),
    ),
    Operation(
        method="POST",
        path="/api/auth/refresh",
        endpoint=endpoints.refresh,
        name="refresh",
        tag="Sessions",
        summary="Change the session's id and prolong it",
        description="The old id is dead at once. Open sockets live on.",
        auth="session",
        data=payloads.Refreshed,
        example=examples.REFRESHED,
        errors=("RATE_LIMITED",),
    ),
    Operation(
        method="POST",
        path="/api/auth/logout",
        endpoint=endpoints.logout,
        name="logout",
        tag="Sessions",
        summary="Sign out",
        description="The sockets of this login close with 4501 within a second.",
        auth="session",
        data=payloads.LoggedOut,
        example=payloads.LoggedOut(),
    ),
    Operation(
        method="GET",
        path="/api/auth/me",
        endpoint=endpoints.me,
        name="getMe",
        tag="Sessions",
        summary="Who am I?",
        auth="session",
        data=User,
        example=examples.USER,
    ),
    Operation(
        method="POST",
        path="/api/auth/ticket",
        endpoint=endpoints.ticket,
        name="drawTicket",
        tag="Sessions",
        summary="Draw a ticket for one WebSocket",
        description=(
            "Good once, for 30 s, as `?ticket=` of a WebSocket URL, where a session "
            "id would end up in logs. A refresh kills it."
        ),
        auth="session",
        data=payloads.DrawnTicket,
        example=examples.TICKET,
        errors=("RATE_LIMITED",),
    ),
    Operation(
        method="GET",
        path="/api/users",
        endpoint=endpoints.users,
        name="listUsers",
        tag="People and rooms",
        summary="People with live status, then the bots in rotation",
        data=list[User],
        example=[examples.USER, examples.BOT],
    ),
    Operation(
        method="GET",
        path="/api/auth/accounts",
        endpoint=endpoints.users,
        name="listAccounts",
        tag="People and rooms",
        summary="The same list, under the original client's name",
        data=list[User],
        example=[examples.USER, examples.BOT],
    ),
    Operation(
        method="GET",
        path="/api/rooms",
        endpoint=endpoints.room_list,
        name="listRooms",
        tag="People and rooms",
        summary="The public rooms and, with a session, one's direct rooms",
        description=(
            "Direct rooms that have messages, latest first; `unreadCount` counts "
            "since the caller's last read receipt or message there."
        ),
        auth="optional",
        data=list[RoomInfo],
        example=examples.ROOMS,
        links=(("listMessages", "id", "/data/0/id"),),
    ),
    Operation(
        method="GET",
        path="/api/rooms/{id:room}/messages",
        endpoint=endpoints.messages,
        name="listMessages",
        tag="People and rooms",
        summary="A room's messages, a page at a time",
        description=(
            "Oldest first. `nextBefore` is there when there is more: pass it as "
            "`before`. Looking wakes nobody."
        ),
        auth="session",
        parameters=(ROOM_ID, BEFORE, LIMIT),
        data=payloads.MessagePage,
        example=examples.PAGE,
        errors=("VALIDATION_ERROR", *codes(Where.ROOM)),
    ),
    Operation(
        method="POST",
        path="/api/presence",
        endpoint=endpoints.presence,
        name="setPresence",
        tag="People and rooms",
        summary="Choose a status, and perhaps a name",
        auth="session",
        request=endpoints.PresenceRequest,
        request_example=examples.PRESENCE,
        data=payloads.ShownPresence,
        example=examples.SHOWN,
        errors=("RATE_LIMITED",),
    ),
    Operation(
        method="GET",
        path="/api/ws/room/{id:room}",
        endpoint=endpoints.upgrade_required,
        name="openRoomSocket",
        tag="WebSockets",
        summary="A room's socket",
        description="What travels on it is in the AsyncAPI document.",
        auth="socket",
        parameters=(ROOM_ID, SINCE),
        status=101,
        errors=(*codes(Where.ENTRY), *codes(Where.ROOM), *codes(Where.SOCKET)),
    ),
    Operation(
        method="GET",
        path="/api/ws/presence",
        endpoint=endpoints.upgrade_required,
        name="openPresenceSocket",
        tag="WebSockets",
        summary="The presence socket: who is online, and notifications",
        description="What travels on it is in the AsyncAPI document.",
        auth="socket",
        status=101,
        errors=codes(Where.SOCKET),
    ),
    Operation(
        method="GET",
        path="/healthz",
        endpoint=endpoints.healthz,
        name="isAlive",
        tag="Operation",
        summary="This process answers",
        text="text/plain",
        example="ok\n",
    ),
    Operation(
        method="GET",
        path="/readyz",
        endpoint=endpoints.readyz,
        name="isReady",
        tag="Operation",
        summary="Traffic is welcome: one line a part of what it needs",
        description="503 with the same lines when another gateway could do what this "
        "one cannot, or when there is no other and no room can wake. When all gateways "
        "are hit alike, 200 and one more line, `degraded: sql, wake`. Who is cut off "
        "says that with one more line too, `cut off: ray, wake`.",
        text="text/plain",
        example="accepting ok\nray ok\nsql ok\nvalkey ok\nwake ok\n",
    ),
    Operation(
        method="GET",
        path="/metrics",
        endpoint=endpoints.metrics_text,
        name="getMetrics",
        tag="Operation",
        summary="All processes of this node, for Prometheus",
        text="text/plain",
        example="# TYPE cfm_sockets gauge\ncfm_sockets 3.0\n",
    ),
    Operation(
        method="GET",
        path="/api/openapi.json",
        endpoint=pages.openapi,
        name="getOpenapi",
        tag="Operation",
        summary="This document",
        text="application/json",
        headers=("ETag",),
    ),
    Operation(
        method="GET",
        path="/api/asyncapi.json",
        endpoint=pages.asyncapi,
        name="getAsyncapi",
        tag="Operation",
        summary="The WebSockets, as AsyncAPI 3",
        text="application/json",
        headers=("ETag",),
    ),
)
