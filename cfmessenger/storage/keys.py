"""The name of every Valkey key and channel, in one place (design.md §5).

Every name starts with `cfm:`, which is also all that the embedded server's ACL lets us
touch. User text never becomes part of a name without having passed an id rule
(`ids.py`, `users.py`), and tokens only as their SHA-256: callers see to both. An
object is named as its actor is (`room:general`, `presence:global`, `rooms:3`), and the
braces around it make a Valkey Cluster keep its log and mirror together. Only there do
the names of a user's sessions have braces too, with the user's tag.
"""

BOTS_ACTIVE = "cfm:bots:active"
BOTS_LINE = "cfm:bots:line"
BOT_ENABLED = "cfm:config:bot_enabled"
GATEWAYS = "cfm:gateways"
LACKING = "cfm:gateways:lacking"
RELEASES = "cfm:gateways:releases"
"""What each gateway's code is able to; a field ends 5 s after it was last said."""

PLACEMENT = "cfm:placement"
"""Where the generation of placement was before it had a log: read, never written."""

OWN_LOADS = "cfm:{placement}:loads"
"""How busy each exception's process is; a field ends with its process, or 10 s after
it was last said."""

DAMAGE = "cfm:damage"
"""How many events logs have lost for good, and how many they got back; kept."""

OWNER = "cfm:{cluster}:owner"
"""The lease of the cluster that uses this Valkey."""

NODES = "cfm:{cluster}:nodes"
"""The nodes that are there, in fields that expire."""

AGREED = "cfm:{cluster}:settings"
"""The settings that all machines have in common, for as long as there are any."""

CLUSTER_SECRET = "cfm:{cluster}:secret"
"""By which machines of the cluster know each other."""

REVOKED_CHANNEL = "cfm:revoked"
"""A login that ended is published here, so that every gateway closes its sockets."""

USERS_CHANNEL = "cfm:users"
"""Who changed what they are called is published here, by user id."""


def log(name: str) -> str:
    """The object's stream of durable events, ids `<epoch>-<seq>`."""
    return f"cfm:{{{name}}}:log"


def head(ray_name: str = "") -> str:
    """The lease of the machine with the control store of this Ray, and its address."""
    return "cfm:{cluster}:head" + (f":{ray_name}" if ray_name else "")


def mirror(name: str) -> str:
    """The object's stream of length one that holds its latest snapshot."""
    return f"cfm:{{{name}}}:mirror"


def aside(name: str) -> str:
    """A mirror of a later release, which the one that runs now cannot read."""
    return f"cfm:{{{name}}}:aside"


def reads(name: str) -> str:
    """The sorted set of an object's users by the seq they have read up to."""
    return f"cfm:{{{name}}}:reads"


def barrier(name: str) -> str:
    """Written and gone: replicas that have it have all of the object's keys so far."""
    return f"cfm:{{{name}}}:barrier"


def hint(name: str) -> str:
    """The location hint of the object's first activation."""
    return f"cfm:{{{name}}}:hint"


def of_object(name: str) -> list[str]:
    """All keys of an object, the log first: they are copied together."""
    return [log(name), mirror(name), aside(name), reads(name), hint(name)]


def object_of(key: str) -> str | None:
    """Whose key this is, by the braces in it; None: no object's."""
    start, _, rest = key.partition("{")
    name, closed, _ = rest.partition("}")
    return name if start == "cfm:" and closed and name else None


def session(token_hash: str) -> str:
    """The hash of one session, by the SHA-256 of its token in hex; in a Valkey Cluster
    with `{tag}` before it."""
    return f"cfm:session:{token_hash}"


def user_sessions(user_id: str, tag: str = "") -> str:
    """The sorted set of a user's sessions by when they end; `tag`: in a Valkey Cluster,
    of those whose names have it."""
    return f"cfm:logins:{{{tag}}}{user_id}" if tag else f"cfm:logins:{user_id}"


def ticket(token_hash: str) -> str:
    """A WebSocket ticket that has not been used yet."""
    return f"cfm:ticket:{token_hash}"


def turnstile(token_hash: str) -> str:
    """The mark of a Turnstile token that was spent."""
    return f"cfm:turnstile:{token_hash}"


def presence(user_id: str) -> str:
    """What a user chose, and while they are here status and last heartbeat.

    The registry alone writes and deletes it.
    """
    return f"cfm:presence:{user_id}"


def user_rooms(user_id: str) -> str:
    """The sorted set of a user's direct rooms by last message; best effort."""
    return f"cfm:user_rooms:{user_id}"


def login(address: str) -> str:
    """The sliding window of logins of one client address that were let through."""
    return f"cfm:login:{address}"


def words(user_id: str) -> str:
    """The sliding window of a user's changes to name, message and picture."""
    return f"cfm:words:{user_id}"


def writes(user_id: str) -> str:
    """The sliding window of a user's changes of rows."""
    return f"cfm:writes:{user_id}"


def new_rooms(user_id: str) -> str:
    """The sliding window of rooms that a user was the first to enter."""
    return f"cfm:new_rooms:{user_id}"


def bots_metrics(day: str) -> str:
    """The bots' figures of a day, `2026-01-31`."""
    return f"cfm:bots:metrics:{day}"


def bots_quota(day: str, user_id: str | None = None) -> str:
    """The day's count of bot answers, of everybody or to one user."""
    return f"cfm:bots:quota:{day}" + (f":{user_id}" if user_id is not None else "")


def gateway_channel(gateway: str) -> str:
    """Where a gateway process is told to re-attach to an object that woke elsewhere."""
    return f"cfm:gateway:{gateway}"
