"""The HTTP endpoints of wire.md §1, one function a row; routing is `app.py`'s.

Each function reads what the row names, in the row's order of checks, and returns an
answer or raises `ProtocolError` / `Unavailable`, which `app.py` turns into envelopes.
Nothing here knows sockets, links or Ray, and no request keeps state in this process.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from cfmessenger.accounts.session_record import Session
from cfmessenger.accounts.turnstile import LONGEST_TOKEN
from cfmessenger.accounts.users import Profile
from cfmessenger.errors import CloseCode, ProtocolError, Unavailable
from cfmessenger.ids import parse_room_id
from cfmessenger.storage import keys
from cfmessenger.wire.complaint import UNREADABLE, of_body
from cfmessenger.wire.decoding import check_display_name, check_personal_message
from cfmessenger.wire.protocol import Status, User
from gateway import metrics
from gateway.api import payloads, rooms, rotation
from gateway.api.admission import Presented, bearer_tokens, identify
from gateway.api.hub import Services
from gateway.envelope import ok

_MEDIA_TYPES = ("application/json", "text/plain", "")
_STATUSES: dict[bytes | None, Status] = {
    b"online": "online",
    b"busy": "busy",
    b"away": "away",
}
_SEQ = re.compile(r"[0-9]{1,15}\Z", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,15}\Z", re.ASCII)
HISTORY_LIMIT = 100

_T = TypeVar("_T")


Token = Annotated[str, Meta(max_length=LONGEST_TOKEN)]


class LoginRequest(msgspec.Struct, rename={"user_id": "userId"}):
    """Who wants in, and the proof that it is a person, under either name."""

    user_id: Annotated[str, Meta(min_length=1, max_length=64)]
    token: Token | None = None
    response: Token | None = msgspec.field(default=None, name="cf-turnstile-response")


class PresenceRequest(msgspec.Struct, rename="camel"):
    """The status to show, and perhaps the name and the personal message."""

    status: Status
    display_name: str | None = None
    personal_message: str | None = None


_RULES = {
    "userId": "must be text of 1-64 characters",
    "token": f"must be text of at most {LONGEST_TOKEN} characters",
    "cf-turnstile-response": f"must be text of at most {LONGEST_TOKEN} characters",
    "status": "must be online, busy, away or offline",
    "displayName": "must be text",
    "personalMessage": "must be text",
}


# What every endpoint uses.


def services_of(request: Request) -> Services:
    """The parts of this process."""
    services: Services = request.app.state.services
    return services


async def session_of(request: Request) -> Session:
    """The caller's session; raises AUTH_REQUIRED or AUTH_EXPIRED.

    From the Authorization header alone: a token anywhere else is not looked at.
    """
    presented = Presented(frozenset(bearer_tokens(request.scope["headers"])))
    return await identify(presented, services_of(request))


def count_call(services: Services, user_id: str) -> None:
    """Count a call of this user that writes something; raises RATE_LIMITED (wire.md
    §1)."""
    now = services.clock.now()
    wait_ms = services.calls.check(user_id, now)
    if wait_ms:
        raise ProtocolError("RATE_LIMITED", retry_after_ms=wait_ms)
    services.calls.record(user_id, now)


async def json_body(request: Request) -> bytes:
    """The body, said to be JSON; raises UNSUPPORTED_MEDIA_TYPE.

    `text/plain` is JSON as well (what the original client's fetch sends), and so is a
    body without a type.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if (
        media_type.strip().lower() not in _MEDIA_TYPES
        or request.headers.get("content-encoding", "identity").lower() != "identity"
    ):
        raise ProtocolError("UNSUPPORTED_MEDIA_TYPE")
    return await request.body()


async def body_of(request: Request, kind: type[_T]) -> _T:
    """The JSON body; raises UNSUPPORTED_MEDIA_TYPE, INVALID_JSON, VALIDATION_ERROR.

    Unknown fields are ignored, a repeated key's last value wins.
    """
    body = await json_body(request)
    try:
        # Decoded first: msgspec does not check the UTF-8 of a string that it skips.
        return msgspec.json.decode(body.decode(), type=kind)
    except UNREADABLE as error:
        field = of_body(body, error).where
        raise ProtocolError("VALIDATION_ERROR", _RULES[field], field=field) from None


def address_of(request: Request) -> str | None:
    """The client's address, as the server (or a trusted proxy) says."""
    return None if request.client is None else request.client.host


async def with_status(services: Services, profiles: list[Profile]) -> list[User]:
    """These people as clients see them; who has no presence key is offline. Raises
    `Unavailable`."""
    asked = (("HGET", keys.presence(profile.id), "status") for profile in profiles)
    found = await services.kv.ask_all(*asked)
    return [
        profile.with_status(status_of(raw))
        for profile, raw in zip(profiles, found, strict=True)
    ]


def status_of(raw: bytes | None) -> Status:
    """What a presence key says; who has none is offline."""
    return _STATUSES.get(raw, "offline")


def profile_of(services: Services, session: Session) -> Profile:
    """The person whose session this is; AUTH_EXPIRED if they left the list since."""
    found = services.directory.person(session.user_id)
    if found is None:  # taken off the list while signed in
        raise ProtocolError("AUTH_EXPIRED")
    return found


# Configuration and sessions.


async def config(request: Request) -> Response:
    """GET /api/config"""
    site_key = services_of(request).settings.turnstile_site_key
    return ok(payloads.Config(site_key or ""))


async def login(request: Request) -> Response:
    """POST /api/auth/login: fields, token present, rate, Turnstile, user."""
    services = services_of(request)
    wanted = await body_of(request, LoginRequest)
    token = wanted.token or wanted.response or ""
    if not token:
        raise ProtocolError("TURNSTILE_REQUIRED")
    address = address_of(request)
    wait_ms = await services.login_rate.take(address)
    if wait_ms:
        raise ProtocolError("RATE_LIMITED", retry_after_ms=wait_ms)
    await services.turnstile.verify(token, address)
    profile = services.directory.person(wanted.user_id)
    if profile is None:
        raise ProtocolError("USER_NOT_FOUND")
    [user] = await with_status(services, [profile])
    hint = services.settings.location_hint
    session_id, session = await services.sessions.create(profile.id, hint)
    return ok(
        payloads.LoggedIn(session_id, user, session.expires_at, session.location_hint)
    )


async def refresh(request: Request) -> Response:
    """POST /api/auth/refresh"""
    services = services_of(request)
    tokens = set(bearer_tokens(request.scope["headers"]))
    if not tokens:
        raise ProtocolError("AUTH_REQUIRED")
    token = tokens.pop()
    old = None if tokens else await services.sessions.get(token)
    if old is None:
        raise ProtocolError("AUTH_EXPIRED")
    count_call(services, old.user_id)
    fresh = await services.sessions.refresh(token)
    if fresh is None:
        raise ProtocolError("AUTH_EXPIRED")
    session_id, session = fresh
    return ok(payloads.Refreshed(session_id, session.expires_at))


async def logout(request: Request) -> Response:
    """POST /api/auth/logout"""
    services = services_of(request)
    session = await session_of(request)
    await services.sessions.logout(session)
    # The other gateways hear it from Valkey; ours need not wait for that.
    await services.hub.close_login(session.login_id, CloseCode.LOGGED_OUT, "logged out")
    return ok(payloads.LoggedOut())


async def me(request: Request) -> Response:
    """GET /api/auth/me"""
    services = services_of(request)
    profile = profile_of(services, await session_of(request))
    [user] = await with_status(services, [profile])
    return ok(user)


async def ticket(request: Request) -> Response:
    """POST /api/auth/ticket"""
    services = services_of(request)
    session = await session_of(request)
    count_call(services, session.user_id)
    drawn, expires_at = await services.tickets.draw(session)
    return ok(payloads.DrawnTicket(drawn, expires_at))


# People and rooms.


async def users(request: Request) -> Response:
    """GET /api/users, GET /api/auth/accounts"""
    services = services_of(request)
    people = await with_status(services, list(services.directory.people))
    found = await rotation.in_rotation(
        services.kv, services.directory, services.settings.bots_active
    )
    return ok([*people, *(bot.with_status("online") for bot in found)])


async def room_list(request: Request) -> Response:
    """GET /api/rooms, with or without a session"""
    services = services_of(request)
    user_id = None
    if bearer_tokens(request.scope["headers"]):
        user_id = (await session_of(request)).user_id
    return ok(await rooms.listed(services, user_id))


async def messages(request: Request) -> Response:
    """GET /api/rooms/{id}/messages?before=SEQ&limit=N"""
    services = services_of(request)
    session = await session_of(request)
    room = parse_room_id(request.path_params["id"])
    before = _query_number(request, "before", _SEQ, "must be a seq")
    if before == 0:
        raise ProtocolError("VALIDATION_ERROR", "must be a seq", field="before")
    limit = _query_number(request, "limit", _NUMBER, "must be a number")
    rooms.enter(room, session.user_id, services)
    wanted = HISTORY_LIMIT if limit is None else min(max(limit, 1), HISTORY_LIMIT)
    shown, next_before, era = await rooms.history(services, room.id, before, wanted)
    earlier = UNSET if next_before is None else next_before
    return ok(payloads.MessagePage(shown, earlier, era))


def _query_number(
    request: Request, name: str, form: re.Pattern[str], rule: str
) -> int | None:
    values = request.query_params.getlist(name)
    if not values:
        return None
    if len(values) > 1 or not form.match(values[0]):
        raise ProtocolError("VALIDATION_ERROR", rule, field=name)
    return int(values[0])


async def presence(request: Request) -> Response:
    """POST /api/presence: the answer is what others see."""
    services = services_of(request)
    session = await session_of(request)
    wanted = await body_of(request, PresenceRequest)
    words: dict[str, str] = {}
    if wanted.display_name is not None:
        check_display_name(wanted.display_name)
        words["display_name"] = wanted.display_name
    if wanted.personal_message is not None:
        check_personal_message(wanted.personal_message)
        words["personal_message"] = wanted.personal_message
    user_id = profile_of(services, session).id
    count_call(services, user_id)
    # First, for whoever wants to appear offline: a name may be refused by its rate.
    await services.hub.presence_update(user_id, wanted.status)
    if words:
        if services.names is None:
            raise Unavailable()
        await services.names.change(user_id, words, services.clock.now())
    name = profile_of(services, session).display_name
    return ok(payloads.ShownPresence(wanted.status, name))


# WebSocket paths without a WebSocket, and operation.


async def upgrade_required(request: Request) -> Response:
    """GET on a WebSocket path without `Upgrade: websocket`"""
    raise ProtocolError("UPGRADE_REQUIRED")


async def healthz(request: Request) -> Response:
    """GET /healthz: this process answers."""
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """GET /readyz: what was found in the last seconds, one line a part."""
    found = services_of(request).hub.ready()
    lines = [
        f"{name} {'ok' if up else 'down'}" for name, up in sorted(found.parts.items())
    ]
    if found.degraded:
        lines.append(f"degraded: {', '.join(found.degraded)}")
    if found.cut_off:
        lines.append(f"cut off: {', '.join(found.cut_off)}")
    return PlainTextResponse("\n".join(lines) + "\n", 200 if found.ok else 503)


async def metrics_text(request: Request) -> Response:
    """GET /metrics: all processes of this node, in Prometheus' text format."""
    await services_of(request).whereabouts.show()
    return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)
