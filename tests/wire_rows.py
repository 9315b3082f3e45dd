"""The rows of wire.md, and the mark with which a test says that it covers one.

`@wire("3 history", …)` on a test function counts; tests that carry no mark are named
in `NAMED`. `tests/test_wire_coverage.py` fails when a row has no test, and the table is
printed at the end of a run that it is part of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Test = TypeVar("_Test", bound=Callable[..., Any])


def wire(*rows: str) -> Callable[[_Test], _Test]:
    """Mark a test as covering these rows (keys of `ROWS`)."""
    unknown = [row for row in rows if row not in ROWS]
    assert not unknown, f"no such rows of wire.md: {unknown}"

    def mark(test: _Test) -> _Test:
        test.wire_rows = rows  # type: ignore[attr-defined]
        return test

    return mark


ROWS: dict[str, str] = {
    # §1 HTTP
    "1 envelope": "{success, data?, error?, meta} under /api/, refusals included",
    "1 request id": "the caller's sane X-Request-Id, else a UUID; echoed; on log lines",
    "1 absent not null": "an optional field is absent, `type` first, times integer ms",
    "1 everywhere": "400, 404, 405 (Allow), 413, 415, 500, 503 (Retry-After)",
    "1 media types": "JSON, text/plain or none; others 415",
    "1 AUTH": "AUTH_REQUIRED: nothing presented; AUTH_EXPIRED: not valid (any more)",
    "1 config": "GET /api/config",
    "1 login": "POST /api/auth/login",
    "1 login rate": "429 RATE_LIMITED, 5 per 10 s per client address",
    "1 turnstile": "403 TURNSTILE_REQUIRED / FAILED, 503 TURNSTILE_UNAVAILABLE",
    "1 refresh": "POST /api/auth/refresh: new id, old one dead, sockets live on",
    "1 logout": "POST /api/auth/logout: its sockets close with 4501 within 1 s",
    "1 me": "GET /api/auth/me",
    "1 ticket": "POST /api/auth/ticket: single use, 30 s, dead after a refresh",
    "1 users": "GET /api/users, /api/auth/accounts: people, then bots in rotation",
    "1 rooms": "GET /api/rooms: public, and the caller's direct rooms with unread",
    "1 messages": "GET /api/rooms/{id}/messages: pages, clamped; wakes nobody",
    "1 presence": "POST /api/presence",
    "1 data list": "GET, POST /api/data/{collection}: items or the row; 401, 403, 404",
    "1 data row": "GET, PATCH, DELETE /api/data/{collection}/{id}: the row; refusals",
    "1 data pages": "filters, sort, nextCursor; VALIDATION_ERROR names the field",
    "1 data preconditions": "ETag, If-Match (412), If-None-Match (304)",
    "1 data retry": "Idempotency-Key: a retried POST is one row",
    "1 data names": "a changed display name is what is shown next, at every gateway",
    "1 sockets": "GET /api/ws/…: 101, and the refusals in their order",
    "1 capacity": "503 AT_CAPACITY (Retry-After)",
    "1 operation": "GET /healthz, /readyz, /metrics",
    "1 documents": "GET /api/openapi.json, /api/asyncapi.json, from the same types",
    "1 presenting": "Bearer, ?ticket=, subprotocols (only cfm.v1 echoed), ?sessionId=",
    "1 disagree": "two that disagree are 401",
    "1 origin": "absent is fine; a present one must be ours or in the list",
    "1 identity": "userId and displayName in the URL are ignored",
    "1 User": "the fields of a User",
    "1 Room": "the fields of a Room",
    "1 room ids": "[a-z0-9][a-z0-9_-]{0,63}, else 400; system_, admin_ 403",
    "1 direct rooms": "sorted, one room in either order; others' 403; malformed 404",
    "1 other rooms": "public, or CFM_OPEN_ROOMS=1, else 404",
    "1 no actor": "a refused request never creates an actor",
    "1 bots": "bots cannot be logged in as",
    # §2 Room socket, client to server
    "2 size": "at most 16 KiB a frame",
    "2 id": "1-64 of A-Za-z0-9._:-, optional",
    "2 repeat": "the same id again is one message: original echo, that socket, no rate",
    "2 window": "within the last 1,000 messages or 60 s, whichever is more",
    "2 other user": "another user's equal id is independent",
    "2 server sets": "sender, name, room, time and seq are the server's",
    "2 chat": "content 1-2048 UTF-16 units, not blank, no control characters",
    "2 chat rate": "per user and room across sockets, gateways, reconnects, crash",
    "2 nudge": "3 per 10 s per user and room, likewise",
    "2 wink": "winkId; counts against the chat rate",
    "2 typing": "false 3 s after the last true and on close; re-arms; 5 a second",
    "2 presence": "updates the participants list and the PresenceRoom",
    "2 ack": "newest of another with that id; only upgrades; else silence",
    "2 ping": "pong {t, timestamp}; wakes nobody; costs no rate",
    "2 unknown fields": "unknown fields are ignored",
    "2 faults": "unknown or wrong type, out of range: an error, and nothing changes",
    # §3 Room socket, server to client
    "3 system": "greeting first; joined/left per user, in group rooms, to everyone",
    "3 history": "on connect, if there is something: the buffer (latest 100)",
    "3 since": "exactly what came after, in frames of at most 100",
    "3 gap": "gap: true if some of it is no longer kept",
    "3 participants": "on join, leave, change; within 50 ms; one entry a user",
    "3 messages": "chat, nudge, wink once durable",
    "3 crowds": "above 200 people: total, the latest and the receiver, 2 s, no lines",
    "3 typing": "to everyone but the sender's own sockets",
    "3 delivery_status": "after an ack that upgraded",
    "3 error": "code, message, content, retryable, retryAfterMs?, id?",
    "3 session_expiring": "2 min before the session ends",
    "3 Message": "the fields of a Message; nudge and wink contents",
    "3 seq": "starts at 1, no holes, no repeats: hibernation, crash",
    "3 timestamp": "never goes backwards within a room",
    "3 echo": "the sender's own message is the acknowledgement",
    "3 playback": "playAt = timestamp + 500; playbackKey",
    # §4 Presence socket
    "4 greeting": "system, then presence_full_sync",
    "4 changes": "presence_join, presence_update",
    "4 notification": "direct rooms: once to every presence socket of both",
    "4 coalescing": "50 ms; more than 8 as one partial full sync",
    "4 online": "while any room or presence socket is open",
    "4 offline": "sent by the user means shown offline",
    "4 rooms": "rooms learn a status from presence frames sent to them",
    "4 client": "presence_update {status, displayName?}, ping",
    "4 watch": "watch and unwatch {userIds}: added up, at most 500, answered partially",
    "4 scope": "online; all, or watched in a crowd: itself, watched, direct, bots",
    # §5 What an acknowledgement means
    "5 gate": "shown to anyone only after Valkey has confirmed the append",
    "5 kept": "then in the room's history whatever process dies next",
    "5 STORAGE_UNAVAILABLE": "at the latest after 5 s; a retry is one message",
    # §6 Close codes
    "6 1002": "protocol error",
    "6 1003": "binary frame",
    "6 1007": "invalid UTF-8",
    "6 1009": "over 64 KiB; between 16 and 64 KiB TOO_LARGE",
    "6 1011": "our bug",
    "6 1012": "restart or drain",
    "6 1013": "overload, slow consumer",
    "6 4400": "pings every 20 s; no frame of any kind for 90 s",
    "6 4500": "session expired",
    "6 4501": "logged out",
    "6 4508 frames": "more than 20 faults a minute",
    "6 4508 pings": "more than 10 WebSocket pings a second",
    "6 4508 flood": "more than 200 frames a second for 5 s; a burst of 1,000 is fine",
    "6 acks": "acks beyond 100 a second are dropped in silence",
    "6 resume": "a reconnecting client passes since and misses nothing",
}

NOT_YET: dict[str, str] = {
    "6 1001": "the client's to send; we say 1012 when we go",
    "6 4503": "nobody loses the right to a room while they are in it",
    "3 seq (node)": "no test moves a room to another node and counts on",
}
"""Rows that this version has nothing to show for, and why."""

_ENDPOINTS = "tests/gateway/api/test_endpoints.py::"
_ADMISSION = "tests/gateway/api/test_admission.py::"
_MIDDLEWARE = "tests/gateway/test_middleware.py::"
_WEBSOCKET = "tests/gateway/server/test_websocket_protocol.py::"
_PURE = "tests/cfmessenger/"
_ROOM = f"{_PURE}chat/test_room_properties.py::"

NAMED: dict[str, tuple[str, ...]] = {
    "1 envelope": (
        f"{_MIDDLEWARE}test_nothing_there",
        f"{_MIDDLEWARE}test_a_refused_upgrade_has_the_envelope_and_the_id",
    ),
    "1 request id": (
        f"{_MIDDLEWARE}test_a_sane_request_id_is_echoed",
        f"{_MIDDLEWARE}test_any_other_is_replaced_by_a_new_uuid",
        f"{_PURE}test_log_format.py::test_the_request_id_is_on_every_record_of_the_request",
    ),
    "1 everywhere": (
        f"{_ENDPOINTS}test_login_refuses_what_is_not_json",
        f"{_MIDDLEWARE}test_nothing_there",
        f"{_MIDDLEWARE}test_the_method_is_not_allowed",
        f"{_MIDDLEWARE}test_a_body_of_64_kib_and_one_byte_more",
        f"{_MIDDLEWARE}test_a_bug_is_a_500_that_says_nothing",
        f"{_ENDPOINTS}test_everything_that_needs_valkey_says_503_without_it",
    ),
    "1 media types": (
        f"{_ENDPOINTS}test_login_takes_what_clients_send",
        f"{_ENDPOINTS}test_login_refuses_other_media_types",
    ),
    "1 AUTH": (
        f"{_ENDPOINTS}test_without_a_session",
        f"{_ENDPOINTS}test_with_what_is_no_session",
        f"{_ADMISSION}test_nothing_presented_or_nothing_valid",
    ),
    "1 config": (
        f"{_ENDPOINTS}test_config_has_the_site_key",
        f"{_ENDPOINTS}test_config_has_an_empty_site_key_when_none_is_set",
    ),
    "1 login": (
        f"{_ENDPOINTS}test_login_answers_session_user_end_and_hint",
        f"{_ENDPOINTS}test_login_names_the_field_and_never_its_value",
        f"{_ENDPOINTS}test_login_of_nobody",
    ),
    "1 login rate": (f"{_ENDPOINTS}test_the_sixth_login_within_ten_seconds",),
    "1 turnstile": (
        f"{_ENDPOINTS}test_a_login_without_a_token_is_told_so",
        f"{_ENDPOINTS}test_login_with_a_refused_token",
        f"{_ENDPOINTS}test_login_when_turnstile_is_away",
    ),
    "1 refresh": (f"{_ENDPOINTS}test_refresh_gives_a_new_session_and_kills_the_old",),
    "1 logout": (f"{_ENDPOINTS}test_logout_ends_the_session_and_tells_everybody",),
    "1 me": (f"{_ENDPOINTS}test_me_is_the_user_with_live_status",),
    "1 ticket": (
        f"{_ENDPOINTS}test_a_ticket_stands_for_the_session_once",
        f"{_PURE}accounts/test_sessions.py::test_a_ticket_is_good_once_and_only_before_a_refresh",
        f"{_PURE}accounts/test_sessions.py::test_a_ticket_ends_and_dies_with_its_session",
    ),
    "1 users": (f"{_ENDPOINTS}test_people_with_live_status_then_the_bots_in_rotation",),
    "1 rooms": (
        f"{_ENDPOINTS}test_rooms_without_a_session_are_the_public_ones",
        f"{_ENDPOINTS}test_rooms_with_a_session_add_the_direct_ones_latest_first",
    ),
    "1 messages": (
        f"{_ENDPOINTS}test_history_in_pages_oldest_first",
        f"{_ENDPOINTS}test_history_before_what_is_no_seq",
        f"{_ENDPOINTS}test_history_of_a_room_one_may_not_read",
    ),
    "1 presence": (
        f"{_ENDPOINTS}test_presence_is_told_and_answered",
        f"{_ENDPOINTS}test_presence_names_the_bad_field",
    ),
    "1 sockets": (
        f"{_ADMISSION}test_the_order_of_the_checks",
        f"{_ADMISSION}test_since",
        f"{_ENDPOINTS}test_a_websocket_path_asked_plainly",
    ),
    "1 operation": (
        f"{_ENDPOINTS}test_health_is_plain",
        f"{_ENDPOINTS}test_ready_says_what_is_not",
        f"{_ENDPOINTS}test_metrics_are_prometheus_text",
    ),
    "1 presenting": (f"{_ADMISSION}test_the_four_ways_to_present_a_session",),
    "1 disagree": (f"{_ADMISSION}test_two_that_disagree_are_refused",),
    "1 origin": (f"{_ADMISSION}test_origins",),
    "1 room ids": (f"{_ADMISSION}test_rooms_one_may_not_enter",),
    "1 direct rooms": (f"{_ADMISSION}test_a_direct_room_has_one_id",),
    "1 other rooms": (f"{_ADMISSION}test_open_rooms",),
    "1 bots": (f"{_ENDPOINTS}test_login_of_nobody",),
    "2 repeat": (f"{_ROOM}test_an_id_is_one_message_and_rates_are_exact",),
    "2 window": (
        f"{_PURE}chat/test_history.py::test_ids_count_for_a_thousand_messages_however_old",
        f"{_PURE}chat/test_room.py::test_an_id_is_new_again_after_60_s_and_1000_messages",
    ),
    "3 seq": (f"{_ROOM}test_seq_has_no_holes_and_time_does_not_go_back",),
    "3 timestamp": (f"{_ROOM}test_seq_has_no_holes_and_time_does_not_go_back",),
    "6 1007": (f"{_WEBSOCKET}test_bad_utf8_is_1007_without_a_traceback",),
    "6 1009": (f"{_WEBSOCKET}test_a_message_of_64_kib_and_one_byte_more",),
    "6 4508 pings": (f"{_WEBSOCKET}test_more_than_ten_pings_a_second_are_abuse",),
}
"""Tests that carry no mark."""
