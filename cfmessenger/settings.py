"""Every setting of the product, read once from `CFM_*` variables (design.md §6).

Owns names, defaults, what people are told of them, and the rules between settings: a
field of `Settings` is all that there is to write of one. It must not read `os.environ`
by itself, look at the network or import anything heavy. Durations are seconds whether
or not the name ends in `_s`. It is one long table, to look things up in; how text is
read, and what is said of a bad one, is in `environment.py`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import msgspec

from cfmessenger import addresses
from cfmessenger.environment import (
    About,
    SettingsError,
    about,
    made,
    path,
    read,
    text_of,
    variable,
)
from cfmessenger.memory import memory
from cfmessenger.placement import Mode
from cfmessenger.tls import Files

ROOM_BYTES = 60 * 2**20
"""What an actor process of one awake room is taken to need."""

TURNSTILE_URL = "https://challenges.cloudflare.com/turnstile/v0/siteverify"

TURNSTILE_TEST_SECRETS = {
    "1x0000000000000000000000000000000AA": "passes",
    "2x0000000000000000000000000000000AA": "fails",
    "3x0000000000000000000000000000000AA": "already spent",
}
"""Cloudflare's published test secrets and their documented outcomes."""

DEFAULT_HOST = "127.0.0.1"

Fsync = Literal["always", "everysec"]
Durability = Literal["disk", "replica"]
LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1_000_000_000)]
SessionSeconds = Annotated[float, msgspec.Meta(ge=1, le=12 * 3600)]
DrainSeconds = Annotated[float, msgspec.Meta(ge=0, le=600)]
Hint = Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,32}$")]
RayName = Annotated[str, msgspec.Meta(pattern="^([a-z0-9][a-z0-9-]{0,19})?$")]


_OF_VALKEY = ("valkey_url", "valkey_replica_url", "ray_store_url", "cluster")
"""URLs with which certificates go."""


class Rate(msgspec.Struct, frozen=True):
    """`count` accepted events in any window of `seconds`; count 0 is unlimited."""

    count: Count
    seconds: Positive = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "20/10" or "0"; raises ValueError on anything else."""
        found = re.fullmatch(r"([0-9]{1,9})(?:/([1-9][0-9]{0,4}))?", text)
        if found is None or (found[2] is None and int(found[1])):
            raise ValueError("expected count/seconds, like 20/10, or 0 for no limit")
        return cls(int(found[1]), int(found[2] or 1))

    @property
    def unlimited(self) -> bool:
        """True when nothing is limited and nothing need be stored."""
        return self.count == 0

    def __str__(self) -> str:
        return f"{self.count}/{self.seconds}" if self.count else "0"


class Ports(msgspec.Struct, frozen=True):
    """The ports from `first` to `last`, both included."""

    first: Positive
    last: Positive

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "7000-7999" or "7000"; raises ValueError on anything else."""
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
        first = int(found[1]) if found else 0
        last = int(found[2] or first) if found else 0
        if not 1 <= first <= last <= 65535:
            raise ValueError("expected ports like 7000-7999")
        return cls(first, last)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _own_rooms() -> int:
    """Eight a core, in no more than a quarter of the memory."""
    return min(8 * cores(), memory().total // 4 // ROOM_BYTES)


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False
):
    """The whole configuration of one node; parts are passed the values they need.

    Build it with `load`, which applies the rules between settings. Child processes are
    given `to_env()` and load the equal struct. `repr` hides what is secret.
    """

    host: Annotated[
        str,
        About(
            "Address to listen on; other than loopback needs a Turnstile secret.",
            read=addresses.host,
            section="Edge",
        ),
    ] = DEFAULT_HOST
    port: Annotated[Port, About("Port to listen on.")] = 8000
    gateways: Annotated[Positive, About("Gateway processes that share the port.")] = 1
    allowed_origins: Annotated[
        tuple[str, ...],
        About(
            "Further origins that may use the API, and their hosts.",
            read=addresses.origins,
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        About(
            "Whose X-Forwarded-* counts: name a proxy that ends TLS.",
            read=addresses.networks,
        ),
    ] = ()
    max_sockets_per_session: Annotated[
        Count, About("Open sockets of one session; 0: no limit.", "20; 0 on loopback")
    ] = 20
    max_sockets_per_address: Annotated[
        Count,
        About("Open sockets of one client address; 0: no limit.", "200; 0 on loopback"),
    ] = 200
    drain_s: Annotated[
        DrainSeconds, About("Seconds in which a gateway that ends closes its sockets.")
    ] = 20.0
    cut_off_s: Annotated[
        DrainSeconds,
        About(
            "Seconds without what other gateways have (namespace, storage) until a "
            "gateway closes its sockets; 0: never."
        ),
    ] = 8.0

    data_dir: Annotated[
        Path,
        About(
            "Folder of everything that is kept; one `up` at a time.",
            "./.cfmessenger",
            section="Storage",
        ),
    ] = Path(".cfmessenger")
    valkey_url: Annotated[
        str | None,
        About(
            "A Valkey (9 or newer) to use; `valkeys://` with TLS, several hosts, "
            "`valkey-sentinel://host:port,host2:port/service`, or "
            "`valkey-cluster://host:port,host2:port`.",
            "embedded",
            read=addresses.valkey_url,
            hides="password",
        ),
    ] = None
    valkey_ca: Annotated[
        Path | None,
        About("File of the authority that its certificate must be of.", "the system's"),
    ] = None
    valkey_cert: Annotated[
        Path | None, About("File of our certificate, if it wants one.")
    ] = None
    valkey_key: Annotated[
        Path | None, About("File of its key.", "in the same file")
    ] = None
    valkey_replica_url: Annotated[
        str | None,
        About(
            "Where open sockets' sessions are checked again.",
            "the primary",
            read=addresses.replica_url,
            hides="password",
        ),
    ] = None
    fsync: Annotated[
        Fsync,
        About("`always`: on disk before it is shown; `everysec` may lose a second."),
    ] = "always"
    durability: Annotated[
        Durability,
        About(
            "`disk`: of one server; `replica`: others have it, too, before it is shown."
        ),
    ] = "disk"
    durability_replicas: Annotated[Positive, About("`replica`: so many of them.")] = 1
    database_url: Annotated[
        str | None,
        About(
            "`postgresql://…` (several hosts will do) or `sqlite:///path`, for users "
            "and orders.",
            "SQLite in the data folder",
            read=addresses.database_url,
            hides="password",
        ),
    ] = None
    log_length: Annotated[
        Annotated[int, msgspec.Meta(ge=1000)],
        About("Messages kept in a room, at least 1000."),
    ] = 10_000

    ray_address: Annotated[
        str | None,
        About(
            "A Ray cluster to use; needs CFM_VALKEY_URL too.",
            "a local Ray",
            section="Actors",
        ),
    ] = None
    ray_port: Annotated[
        Port, About("Of the head: where Ray's control store listens.")
    ] = 6380
    ray_name: Annotated[
        RayName,
        About(
            "Of head and nodes: which Ray this is, if another one takes over from it.",
            "none",
        ),
    ] = ""
    ray_store_url: Annotated[
        str | None,
        About(
            "A Valkey, no Cluster, in which the head keeps what Ray knows; `none`: "
            "nowhere.",
            "CFM_VALKEY_URL; none if that is a Cluster",
            read=addresses.store_url,
            hides="password",
        ),
    ] = None
    cluster: Annotated[
        str | None,
        About(
            "For commands: which one to ask, by its Valkey's URL or tcp://host:port.",
            "what runs here",
            read=addresses.cluster_url,
            hides="password",
        ),
    ] = None
    node_address: Annotated[
        str | None,
        About(
            "IP address of this machine, for the others of its cluster.",
            "the one that reaches CFM_VALKEY_URL",
            read=addresses.host,
        ),
    ] = None
    namespace_port: Annotated[
        Port, About("Of a node: where gateways of other machines ask; 0: any.")
    ] = 6390
    link_ports: Annotated[
        Ports | None,
        About(
            "Of a node: the ports, like 7000-7999, on one of which each actor process "
            "waits for gateways.",
            "any",
        ),
    ] = None
    tls_ca: Annotated[
        Path | None,
        About(
            "File of the authority that signs the machines of this cluster and nobody "
            "else: links, the namespace and Ray speak TLS between machines.",
            "clear text",
        ),
    ] = None
    tls_cert: Annotated[
        Path | None, About("File of this machine's certificate of that authority.")
    ] = None
    tls_key: Annotated[Path | None, About("File of its key.", "in the same file")] = (
        None
    )
    placement: Annotated[
        Mode, About("`auto`; `dedicated`: a process a room; `pooled`: all share some.")
    ] = "auto"
    pool_size: Annotated[
        Positive, About("Actor processes that rooms share.", "cores")
    ] = msgspec.field(default_factory=cores)
    own_rooms: Annotated[
        Count,
        About(
            "`auto`: rooms that may have their own actor, beside hot ones.",
            "8 × cores within memory",
        ),
    ] = msgspec.field(default_factory=_own_rooms)
    hot_share: Annotated[
        Percent,
        About("`auto`: percent of its process's time from which a room is hot."),
    ] = 4
    hot_hold: Annotated[
        Positive, About("`auto`: or so many milliseconds in which others wait for it.")
    ] = 50
    calm_after: Annotated[
        Seconds, About("`auto`: seconds without either until it counts as calm again.")
    ] = 180.0
    warm_workers: Annotated[
        Count, About("Idle Ray workers kept ready for the next room that wakes.")
    ] = 2
    hibernate_after: Annotated[
        Seconds, About("Seconds without an event until a room sleeps.")
    ] = 10.0
    heal_s: Annotated[
        DrainSeconds,
        About(
            "Seconds of what it committed that a room keeps for a Valkey that loses it "
            "in a failover; kept only where a replica is. 0: none."
        ),
    ] = 10.0
    max_active_rooms: Annotated[
        Positive | None,
        About("Dedicated rooms awake at once; beyond it AT_CAPACITY.", "from memory"),
    ] = None
    location_hint: Annotated[
        Hint, About("Where rooms are to live: the `region` label of Ray nodes.")
    ] = "uk"
    location_strict: Annotated[
        bool, About("1: nowhere else; a room without its node answers 503.")
    ] = False

    chat_rate: Annotated[
        Rate,
        About(
            "Messages of one user in one room, count/seconds; 0: no limit.",
            section="Rules",
        ),
    ] = Rate(20, 10)
    nudge_rate: Annotated[Rate, About("Nudges, likewise.")] = Rate(3, 10)
    presence_all: Annotated[
        Positive,
        About(
            "With more people online than this each hears of those alone whom they "
            "watch or know; until four fifths of that are."
        ),
    ] = 500
    login_rate: Annotated[Rate, About("Logins of one client address, likewise.")] = (
        Rate(5, 10)
    )
    write_rate: Annotated[
        Rate, About("Changes of one user to rows of /api/data, likewise.")
    ] = Rate(20, 10)
    order_quota: Annotated[Count, About("Orders of one user; 0: no limit.")] = 1000
    order_quota_bytes: Annotated[
        Count, About("Their size and that of their idempotency keys, likewise.")
    ] = 10 * 2**20
    new_room_rate: Annotated[
        Rate, About("Rooms one user is the first to enter, count/seconds.")
    ] = Rate(30, 60)
    session_ttl: Annotated[
        SessionSeconds, About("Seconds a session lives after it was last used.")
    ] = 1200.0
    max_sessions_per_user: Annotated[
        Count, About("One more ends the one that was used longest ago.")
    ] = 100  # 0: no limit
    open_rooms: Annotated[bool, About("1: any valid room id is a room.")] = False
    users: Annotated[
        Path | None, About("JSON file of people and bots.", "the seeded list")
    ] = None
    turnstile_site_key: Annotated[
        str | None, About("Shown to clients, which solve its challenge.")
    ] = None
    turnstile_secret_key: Annotated[
        str | None,
        About("Checks what they solved; no flag, as it is secret.", hides="whole"),
    ] = None
    turnstile_url: Annotated[
        str, About("Where it is checked.", "Cloudflare's", read=addresses.http_url)
    ] = TURNSTILE_URL
    turnstile_hostnames: Annotated[
        tuple[str, ...],
        About("Host names a solution may be for; none: any.", read=addresses.hostnames),
    ] = ()

    bots_active: Annotated[
        Count, About("Personas in rotation at a time; 0: no bots.", section="Bots")
    ] = 4
    bot_quota_day: Annotated[Count, About("Answers of all bots in a day.")] = 10_000
    bot_quota_user: Annotated[Count, About("Answers to one person in a day.")] = 50
    bot_quota_room: Annotated[
        Positive, About("Answers being thought of in one room at a time.")
    ] = 1
    ai_base_url: Annotated[
        str | None,
        About(
            "An OpenAI-compatible server that answers for the bots.",
            "none: scripted",
            read=addresses.http_url,
            hides="password",
        ),
    ] = None
    ai_model: Annotated[
        str | None, About("Its model; needed with CFM_AI_BASE_URL.")
    ] = None
    ai_key: Annotated[
        str | None, About("Its key; no flag, as it is secret.", hides="whole")
    ] = None

    log_format: Annotated[
        LogFormat | None,
        About("`console` or `json`.", "by terminal", section="Operation"),
    ] = None
    log_level: Annotated[
        LogLevel, About("`debug`, `info`, `warning`, `error` or `critical`.")
    ] = "info"
    crash_at: Annotated[str | None, About()] = None  # tests only

    @classmethod
    def load(cls, env: Mapping[str, str]) -> Self:
        """Read the `CFM_*` names of `env`, or raise SettingsError.

        Names without the prefix are ignored. Relative paths are taken from the current
        directory now, so that children which run elsewhere mean the same files.
        """
        values = read(env, cls)
        if addresses.is_loopback(values.get("host", DEFAULT_HOST)):
            # Everybody has the same address there, and load tests few sessions.
            values.setdefault("max_sockets_per_session", 0)
            values.setdefault("max_sockets_per_address", 0)
        values.setdefault("data_dir", path("./.cfmessenger"))
        settings = made(values, cls)
        settings._check()
        return settings._reaching()

    def to_env(self) -> dict[str, str]:
        """The variables from which `load` makes an equal struct, secrets included."""
        return {
            variable(field): text_of(value)
            for field in self.__struct_fields__
            if (value := getattr(self, field)) is not None and value != ()
        }

    @property
    def _speaks_tls(self) -> bool:
        urls = [getattr(self, field) for field in _OF_VALKEY]
        return any(urlsplit(u).scheme in addresses.TLS_SCHEMES for u in urls if u)

    @property
    def replicas(self) -> int:
        """So many have what is shown, beside the primary."""
        return self.durability_replicas if self.durability == "replica" else 0

    @property
    def tls(self) -> Files | None:
        """The files by which machines trust each other; None: they speak in clear."""
        if self.tls_ca is None or self.tls_cert is None:
            return None
        return Files(self.tls_ca, self.tls_cert, self.tls_key)

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the bound address."""
        return addresses.is_loopback(self.host)

    def _reaching(self) -> Self:
        """With URLs that say all there is to say: wherever one goes, certificates and
        the level of durability go with it. Said again, it changes nothing."""
        files = {
            "ssl_ca_certs": self.valkey_ca,
            "ssl_certfile": self.valkey_cert,
            "ssl_keyfile": self.valkey_key,
        }
        tls = {name: str(file) for name, file in files.items() if file is not None}
        urls: dict[str, str] = {}
        for field in _OF_VALKEY:
            url: str | None = getattr(self, field)
            if url is not None and urlsplit(url).scheme in addresses.TLS_SCHEMES:
                urls[field] = addresses.with_parameters(url, **tls)
        if self.valkey_url is not None:
            urls["valkey_url"] = addresses.with_parameters(
                urls.get("valkey_url", self.valkey_url),
                replicas=str(self.replicas) if self.replicas else None,
            )
        return msgspec.structs.replace(self, **urls)

    def _check(self) -> None:
        if self.ray_address and not self.valkey_url:
            # Actors on another node cannot reach a Valkey on our Unix socket.
            raise SettingsError("CFM_RAY_ADDRESS: needs CFM_VALKEY_URL to be set too")
        if self.valkey_replica_url and not self.valkey_url:
            raise SettingsError(
                "CFM_VALKEY_REPLICA_URL: needs CFM_VALKEY_URL to be set too"
            )
        if self.durability == "replica" and not self.valkey_url:
            # The embedded one has no replica.
            raise SettingsError(
                "CFM_DURABILITY: `replica` needs CFM_VALKEY_URL to be set too"
            )
        if self.valkey_key and not self.valkey_cert:
            raise SettingsError("CFM_VALKEY_KEY: needs CFM_VALKEY_CERT to be set too")
        for one, other in (("tls_ca", "tls_cert"), ("tls_cert", "tls_ca")):
            if getattr(self, one) and not getattr(self, other):
                raise SettingsError(
                    f"{variable(one)}: needs {variable(other)} to be set too"
                )
        if self.tls_key and not self.tls_cert:
            raise SettingsError("CFM_TLS_KEY: needs CFM_TLS_CERT to be set too")
        for field in ("valkey_ca", "valkey_cert"):
            if getattr(self, field) and not self._speaks_tls:
                raise SettingsError(
                    f"{variable(field)}: needs a valkeys:// URL in CFM_VALKEY_URL"
                )
        if self.valkey_replica_url and addresses.is_valkey_cluster(
            self.valkey_url or ""
        ):
            raise SettingsError(
                "CFM_VALKEY_REPLICA_URL: cannot be used with a Valkey Cluster; its "
                "primaries share the reads"
            )
        if self.ai_base_url and not self.ai_model:
            raise SettingsError("CFM_AI_BASE_URL: needs CFM_AI_MODEL to be set too")
        if self.loopback:
            return
        if not self.turnstile_secret_key:
            raise SettingsError(
                "CFM_TURNSTILE_SECRET_KEY: must be set unless CFM_HOST is a loopback "
                "address"
            )
        if self.turnstile_secret_key in TURNSTILE_TEST_SECRETS:
            raise SettingsError(
                "CFM_TURNSTILE_SECRET_KEY: a published test secret is only allowed "
                "when CFM_HOST is a loopback address"
            )

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [
            (field, "(hidden)" if value and about(type(self))[field].hides else value)
            for field in self.__struct_fields__
            for value in (getattr(self, field),)
        ]

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({', '.join(shown)})"


ABOUT = about(Settings)
"""What is to know of each setting, in the struct's order."""
