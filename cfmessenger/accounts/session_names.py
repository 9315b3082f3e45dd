"""What sessions are called: tokens, the names of their keys, and of a user's set.

In a Valkey Cluster a token begins with its user's tag, 4 characters of a hash of the
user's id, before 234 random bits. The names of a user's sessions and of their set carry
it in braces, so that they are in one slot. Sessions that were copied there from one
server have older names, and live on under them. Reads and writes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

from cfmessenger.storage import keys

TOKEN = re.compile(r"[A-Za-z0-9_-]{43}\Z")  # token_urlsafe(32)
_TAG = 4  # characters of a token that are its user's tag, in a cluster


def token_hash(token: str) -> str:
    """What Valkey and logs may know of a token: its SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def tag_of(user_id: str) -> str:
    """What a user's tokens begin with in a Valkey Cluster: 24 bits of a hash."""
    digest = hashlib.sha256(user_id.encode()).digest()
    return base64.urlsafe_b64encode(digest)[:_TAG].decode()


class SessionNames:
    """Those of one storage; `sharded`: it is a cluster."""

    def __init__(self, sharded: bool) -> None:
        self._sharded = sharded

    def fresh(self, user_id: str) -> str:
        """A new token of this user."""
        token = secrets.token_urlsafe(32)
        return tag_of(user_id) + token[_TAG:] if self._sharded else token

    def named(self, token: str) -> str:
        """The `token_hash` of a session with this token."""
        hashed = token_hash(token)
        return f"{{{token[:_TAG]}}}{hashed}" if self._sharded else hashed

    def older(self, hashed: str) -> bool:
        """Whether this is the name of a session from before there was a cluster."""
        return self._sharded and not hashed.startswith("{")

    def index(self, user_id: str, older: bool = False) -> str:
        """The set of a user's sessions, or of those that have older names."""
        tag = tag_of(user_id) if self._sharded and not older else ""
        return keys.user_sessions(user_id, tag)

    def indices(self, user_id: str) -> list[str]:
        """Every set in which a user's sessions may be."""
        each = (False, True) if self._sharded else (False,)
        return [self.index(user_id, older) for older in each]
