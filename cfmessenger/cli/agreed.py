"""The settings that every machine of a cluster must have in common.

What a room does must not depend on where it woke, nor what a person may do on the
gateway that answers. A list of people is compared by what is in it.
"""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from cfmessenger.environment import variable
from cfmessenger.settings import ABOUT, Settings

FIELDS = (
    *("placement", "log_length", "hibernate_after", "location_strict"),
    *("durability", "durability_replicas"),
    *("hot_share", "hot_hold", "calm_after"),
    *("chat_rate", "nudge_rate", "login_rate", "write_rate", "new_room_rate"),
    "presence_all",
    *("order_quota", "order_quota_bytes", "session_ttl", "max_sessions_per_user"),
    *("open_rooms", "bots_active", "bot_quota_day", "bot_quota_user"),
    *("bot_quota_room", "ai_base_url", "ai_model"),
)


def agreed(settings: Settings) -> dict[str, str]:
    """Each by its variable's name, as text. Raises OSError for people in a file that
    cannot be read."""
    env = settings.to_env()
    found = {variable(field): env.get(variable(field), "") for field in FIELDS}
    for field in FIELDS:
        if ABOUT[field].hides:
            found[variable(field)] = _told(found[variable(field)])
    if settings.users is not None:
        digest = hashlib.sha256(settings.users.read_bytes()).hexdigest()
        found[variable("users")] = f"people {digest[:12]}"
    else:
        found[variable("users")] = "the seeded list"
    return found


def _told(url: str) -> str:
    """A URL that may have a password, which others are told by its digest alone."""
    parts = urlsplit(url)
    who, at, where = parts.netloc.rpartition("@")
    if not at and not parts.query:
        return url
    digest = hashlib.sha256(f"{who}?{parts.query}".encode()).hexdigest()
    return f"{parts._replace(netloc=where, query='').geturl()} ({digest[:12]})"
