"""What each setting means, in one line: for `--help` and the table in the README.

A setting without a line here fails the tests. Defaults are `settings.py`'s; the words
in `DEFAULTS` only say what no value can.
"""

from __future__ import annotations

from cfmessenger.settings import PREFIX, Settings

HELP: dict[str, dict[str, str]] = {
    "Edge": {
        "host": "Address to listen on; other than loopback needs a Turnstile secret.",
        "port": "Port to listen on.",
        "gateways": "Gateway processes that share the port.",
        "allowed_origins": "Further origins that may use the API, and their hosts.",
        "trusted_proxies": "Whose X-Forwarded-* counts: name a proxy that ends TLS.",
        "max_sockets_per_session": "Open sockets of one session; 0: no limit.",
        "max_sockets_per_address": "Open sockets of one client address; 0: no limit.",
        "drain_s": "Seconds in which a gateway that ends closes its sockets.",
    },
    "Storage": {
        "data_dir": "Folder of everything that is kept; one `up` at a time.",
        "valkey_url": "A Valkey (9 or newer) to use.",
        "valkey_replica_url": "Where open sockets' sessions are checked again.",
        "fsync": "`always`: on disk before it is shown; `everysec` may lose a second.",
        "database_url": "`postgresql://…` or `sqlite:///path`, for users and orders.",
        "log_length": "Messages kept in a room, at least 1000.",
    },
    "Actors": {
        "ray_address": "A Ray cluster to use; needs CFM_VALKEY_URL too.",
        "placement": "`auto`; `dedicated`: a process a room; `pooled`: all share some.",
        "pool_size": "Actor processes that rooms share.",
        "own_rooms": "`auto`: rooms that may have their own actor, beside hot ones.",
        "hot_share": "`auto`: percent of its process's time from which a room is hot.",
        "hot_hold": "`auto`: or so many milliseconds in which others wait for it.",
        "calm_after": "`auto`: seconds without either until it counts as calm again.",
        "warm_workers": "Idle Ray workers kept ready for the next room that wakes.",
        "hibernate_after": "Seconds without an event until a room sleeps.",
        "max_active_rooms": "Dedicated rooms awake at once; beyond it AT_CAPACITY.",
        "location_hint": "Where rooms are to live: the `region` label of Ray nodes.",
        "location_strict": "1: nowhere else; a room without its node answers 503.",
    },
    "Rules": {
        "chat_rate": "Messages of one user in one room, count/seconds; 0: no limit.",
        "nudge_rate": "Nudges, likewise.",
        "login_rate": "Logins of one client address, likewise.",
        "write_rate": "Changes of one user to rows of /api/data, likewise.",
        "order_quota": "Orders of one user; 0: no limit.",
        "order_quota_bytes": "Their size and that of their idempotency keys, likewise.",
        "new_room_rate": "Rooms one user is the first to enter, count/seconds.",
        "session_ttl": "Seconds a session lives after it was last used.",
        "max_sessions_per_user": "One more ends the one that was used longest ago.",
        "open_rooms": "1: any valid room id is a room.",
        "users": "JSON file of people and bots.",
        "turnstile_site_key": "Shown to clients, which solve its challenge.",
        "turnstile_secret_key": "Checks what they solved; no flag, as it is secret.",
        "turnstile_url": "Where it is checked.",
        "turnstile_hostnames": "Host names a solution may be for; none: any.",
    },
    "Bots": {
        "bots_active": "Personas in rotation at a time; 0: no bots.",
        "bot_quota_day": "Answers of all bots in a day.",
        "bot_quota_user": "Answers to one person in a day.",
        "bot_quota_room": "Answers being thought of in one room at a time.",
        "ai_base_url": "An OpenAI-compatible server that answers for the bots.",
        "ai_model": "Its model; needed with CFM_AI_BASE_URL.",
        "ai_key": "Its key; no flag, as it is secret.",
    },
    "Operation": {
        "log_format": "`console` or `json`.",
        "log_level": "`debug`, `info`, `warning`, `error` or `critical`.",
    },
}
"""By section, in the struct's order."""

DEFAULTS = {
    "allowed_origins": "none",
    "data_dir": "./.cfmessenger",
    "database_url": "SQLite in the data folder",
    "location_strict": "0",
    "log_format": "by terminal",
    "max_active_rooms": "from memory",
    "max_sockets_per_address": "200; 0 on loopback",
    "max_sockets_per_session": "20; 0 on loopback",
    "open_rooms": "0",
    "pool_size": "cores",
    "own_rooms": "8 × cores within memory",
    "ray_address": "a local Ray",
    "trusted_proxies": "none",
    "turnstile_hostnames": "none",
    "turnstile_url": "Cloudflare's",
    "users": "the seeded list",
    "valkey_replica_url": "the primary",
    "valkey_url": "embedded",
    "ai_base_url": "none: scripted",
}


def help_of(field: str) -> str:
    """The line of one setting. Raises StopIteration for one that has none."""
    return next(lines[field] for lines in HELP.values() if field in lines)


def default_of(field: str) -> str:
    """Its default, as a person writes it."""
    if field in DEFAULTS:
        return DEFAULTS[field]
    value = getattr(Settings(), field)
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def table() -> str:
    """The README's table."""
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for section, lines in HELP.items():
        rows.append(f"| **{section}** | | |")
        rows += [
            f"| `{PREFIX}{field.upper()}` | {default_of(field)} | {text} |"
            for field, text in lines.items()
        ]
    return "\n".join(rows)
