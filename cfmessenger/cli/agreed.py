"""The settings that every machine of a cluster must have in common.

What a room does must not depend on where it woke, nor what a person may do on the
gateway that answers. A list of people is compared by what is in it.
"""

from __future__ import annotations

import hashlib

from cfmessenger.environment import variable
from cfmessenger.settings import Settings

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
    if settings.users is not None:
        digest = hashlib.sha256(settings.users.read_bytes()).hexdigest()
        found[variable("users")] = f"people {digest[:12]}"
    else:
        found[variable("users")] = "the seeded list"
    return found
