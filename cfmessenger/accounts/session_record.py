"""A session as Valkey has it: its hash, and its place in its user's set.

Values in, commands out; sends nothing and knows no time.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Command

_FIELDS = ("userId", "loginId", "startedAt", "expiresAt", "nonce", "locationHint")

Record = dict[bytes, bytes]
"""A session's hash in Valkey, empty if there is none."""


class Session(msgspec.Struct, frozen=True, gc=False):
    """One login as last seen in Valkey. Holds no secret; `token_hash` names its key,
    and begins with its user's `{tag}` in a cluster."""

    user_id: str
    login_id: str
    token_hash: str
    started_at: int
    expires_at: int
    nonce: str
    location_hint: str


def read(hashed: str, record: Record) -> Session | None:
    """The session of this `token_hash`; None if there is none, or not all of it. What a
    later release keeps there too stays as it is."""
    if not all(name.encode() in record for name in _FIELDS):
        return None
    text = {name: record[name.encode()].decode() for name in _FIELDS}
    return Session(
        user_id=text["userId"],
        login_id=text["loginId"],
        token_hash=hashed,
        started_at=int(text["startedAt"]),
        expires_at=int(text["expiresAt"]),
        nonce=text["nonce"],
        location_hint=text["locationHint"],
    )


def write(session: Session, *, only_over_existing: bool) -> Command:
    """Keep it until it expires; `only_over_existing`: if it is still there."""
    values: tuple[str | int, ...] = (
        session.user_id,
        session.login_id,
        session.started_at,
        session.expires_at,
        session.nonce,
        session.location_hint,
    )
    over = ("FXX",) if only_over_existing else ()
    fields = (part for pair in zip(_FIELDS, values, strict=True) for part in pair)
    head = ("HSETEX", keys.session(session.token_hash), *over)
    return (*head, "PXAT", session.expires_at, "FIELDS", len(_FIELDS), *fields)


def member_of(session: Session) -> str:
    """What it is called in its user's set."""
    return f"{session.login_id}.{session.token_hash}"


def hash_of(member: str) -> str:
    """The `token_hash` of a member of that."""
    return member.partition(".")[2]


def hashes_of(login_id: str, members: Iterable[bytes]) -> set[str]:
    """Those of one login."""
    pairs = (member.decode().partition(".") for member in members)
    return {hashed for login, _, hashed in pairs if login == login_id}
