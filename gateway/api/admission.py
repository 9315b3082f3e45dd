"""Who may open a WebSocket, decided before it is accepted (wire.md §1).

Checks in exactly the wire's order: upgrade, origin, session, room id and `since`,
reserved, existing, participant, the rate of new rooms; the first that fails is the
answer. AT_CAPACITY comes after and is the sockets' own. `userId` and `displayName` in
the URL are never read: identity comes from the session alone. Nothing here contacts an
actor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Scope

from cfmessenger.accounts.session_record import Session
from cfmessenger.errors import ProtocolError, Unavailable
from cfmessenger.ids import RoomId, parse_room_id, room_name
from cfmessenger.storage import keys
from gateway.api.hub import Services
from gateway.api.rooms import PUBLIC_ROOMS, enter
from gateway.envelope import Refusal
from gateway.origin import check_origin

SUBPROTOCOL = "cfm.v1"
_BEARER = "bearer."
_SEQ = re.compile(r"[0-9]{1,15}\Z", re.ASCII)


class Admission(msgspec.Struct, frozen=True):
    """A handshake that may be accepted.

    `room_id` is canonical, None on the presence socket. `since` is the seq after which
    the client wants the history, None for the default; `era` is what it says with it.
    `subprotocol` is to be echoed.
    """

    session: Session
    room_id: str | None
    since: int | None
    subprotocol: str | None
    era: int | None = None


class Presented(msgspec.Struct, frozen=True):
    """What a request shows as its session: different values are a contradiction."""

    tokens: frozenset[str]
    tickets: frozenset[str] = frozenset()


async def authorise_upgrade(scope: Scope, services: Services) -> Admission | Refusal:
    """Judges the handshake of a routed request; a room's raw id is path param `id`.

    Never raises `ProtocolError` or `Unavailable`: they come back as a `Refusal`.
    """
    try:
        return await _authorise(scope, services)
    except (ProtocolError, Unavailable) as error:
        return Refusal.from_error(error)


async def _authorise(scope: Scope, services: Services) -> Admission:
    if scope["type"] != "websocket":
        raise ProtocolError("UPGRADE_REQUIRED")
    check_origin(scope, services.settings.allowed_origins)
    query = query_items(scope)
    offered = list(scope.get("subprotocols", ()))
    session = await identify(
        Presented(
            frozenset(
                [
                    *bearer_tokens(scope["headers"]),
                    *(_after_bearer(name) for name in offered),
                    *(value for name, value in query if name == "sessionId"),
                ]
            )
            - {""},
            frozenset(value for name, value in query if name == "ticket") - {""},
        ),
        services,
    )
    numbers = {
        asked: [value for name, value in query if name == asked]
        for asked in ("since", "era")
    }
    room = _room_of(scope, numbers)
    if room is not None:
        enter(room[0], session.user_id, services)
        await _count_new(room[0].id, session.user_id, services)
    return Admission(
        session,
        None if room is None else room[0].id,
        None if room is None else room[1],
        SUBPROTOCOL if SUBPROTOCOL in offered else None,
        None if room is None else room[2],
    )


async def identify(presented: Presented, services: Services) -> Session:
    """The session behind what was presented, prolonged by this use.

    Raises AUTH_REQUIRED for nothing, AUTH_EXPIRED for what is not valid (any more) or
    contradicts itself. A ticket is used up even so.
    """
    if not presented.tokens and not presented.tickets:
        raise ProtocolError("AUTH_REQUIRED")
    if len(presented.tokens) > 1 or len(presented.tickets) > 1:
        raise ProtocolError("AUTH_EXPIRED")
    found = [await services.sessions.get(token) for token in presented.tokens]
    found += [await services.tickets.redeem(ticket) for ticket in presented.tickets]
    session = found[0]
    if session is None or any(
        other is None or other.token_hash != session.token_hash for other in found
    ):
        raise ProtocolError("AUTH_EXPIRED")
    prolonged = await services.sessions.slide(session)
    if prolonged is None:
        raise ProtocolError("AUTH_EXPIRED")
    return prolonged


def bearer_tokens(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """The tokens of `Authorization: Bearer …`; other schemes are not ours to read."""
    found = []
    for value in _values(headers, b"authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            found.append(token.strip())
    return found


def query_items(scope: Scope) -> list[tuple[str, str]]:
    """The query's pairs; a value that is not UTF-8 matches nothing we ever issued."""
    raw = scope["query_string"].decode("latin-1")
    return parse_qsl(raw, keep_blank_values=True, errors="replace")


async def _count_new(room_id: str, user_id: str, services: Services) -> None:
    """Raises RATE_LIMITED for one more room that nobody was ever in.

    It leaves a key for ever: the epochs of its log, which must not begin again.
    """
    if room_id in PUBLIC_ROOMS or services.settings.new_room_rate.unlimited:
        return
    if not await services.kv.ask("EXISTS", keys.log(room_name(room_id))):
        await services.new_room_rate.spend(user_id)


def _room_of(
    scope: Scope, numbers: Mapping[str, list[str]]
) -> tuple[RoomId, int | None, int | None] | None:
    """The room, and which `since` and `era` the client comes with."""
    raw = scope.get("path_params", {}).get("id")
    if raw is None:
        return None
    refused: ProtocolError | None = None
    try:
        room = parse_room_id(raw)
    except ProtocolError as error:
        if error.code == "INVALID_ROOM_ID":
            raise
        refused = error  # comes after `since`
    for name, values in numbers.items():
        if len(values) > 1 or any(not _SEQ.match(value) for value in values):
            raise ProtocolError("VALIDATION_ERROR", "must be a seq", field=name)
    if refused is not None:
        raise refused
    since, era = (
        int(values[0]) if values else None
        for values in (numbers["since"], numbers["era"])
    )
    return room, since, era


def _after_bearer(subprotocol: str) -> str:
    return subprotocol[len(_BEARER) :] if subprotocol.startswith(_BEARER) else ""


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted]
