"""Every setting of the product, read once from `CFM_*` variables (design.md §6).

Owns names, defaults and the rules between settings; must not read `os.environ` by
itself, look at the network or import anything heavy. A field is the variable's name in
lower case without `CFM_`, with no exceptions (durations are seconds whether or not the
name ends in `_s`). An unknown name, a bad value or a forbidden combination is a
`SettingsError` of one line which names the variable and never repeats a value, because
values hold passwords. An empty value counts as not set, as compose files write it.
"""

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

import msgspec

from cfmessenger.memory import memory
from cfmessenger.placement import Mode

PREFIX = "CFM_"

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


class SettingsError(ValueError):
    """A variable that cannot be used, as one line; the CLI prints it and exits 3."""


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

    @property
    def window_ms(self) -> int:
        """The window in milliseconds."""
        return self.seconds * 1000

    def __str__(self) -> str:
        return f"{self.count}/{self.seconds}" if self.count else "0"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _own_rooms() -> int:
    """Eight a core, in no more than a quarter of the memory."""
    return min(8 * _cores(), memory().total // 4 // ROOM_BYTES)


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False
):
    """The whole configuration of one node; parts are passed the values they need.

    Build it with `load`, which applies the rules between settings. Child processes are
    given `to_env()` and load the equal struct. `repr` hides what is secret.
    """

    # Edge
    host: str = DEFAULT_HOST
    port: Port = 8000
    gateways: Positive = 1
    allowed_origins: tuple[str, ...] = ()  # besides the gateway's own
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks
    max_sockets_per_session: Count = 20  # 0: no limit, the default on loopback
    max_sockets_per_address: Count = 200
    drain_s: DrainSeconds = 20.0

    # Storage
    data_dir: Path = Path(".cfmessenger")
    valkey_url: str | None = None  # None: embedded
    valkey_replica_url: str | None = None
    fsync: Fsync = "always"
    database_url: str | None = None  # None: SQLite in data_dir
    log_length: Annotated[int, msgspec.Meta(ge=1000)] = 10_000

    # Actors
    ray_address: str | None = None  # None: a local Ray of our own
    placement: Mode = "auto"
    pool_size: Positive = msgspec.field(default_factory=_cores)
    own_rooms: Count = msgspec.field(default_factory=_own_rooms)
    hot_share: Percent = 4
    hot_hold: Positive = 50  # milliseconds
    calm_after: Seconds = 180.0
    warm_workers: Count = 2
    hibernate_after: Seconds = 10.0
    max_active_rooms: Positive | None = None  # None: derived from memory
    location_hint: Hint = "uk"
    location_strict: bool = False

    # Rules of the room and the session
    chat_rate: Rate = Rate(20, 10)
    nudge_rate: Rate = Rate(3, 10)
    login_rate: Rate = Rate(5, 10)
    write_rate: Rate = Rate(20, 10)
    order_quota: Count = 1000  # 0: no limit
    order_quota_bytes: Count = 10 * 2**20
    new_room_rate: Rate = Rate(30, 60)
    session_ttl: SessionSeconds = 1200.0
    max_sessions_per_user: Count = 100  # 0: no limit
    open_rooms: bool = False
    users: Path | None = None  # None: the seeded list
    turnstile_site_key: str | None = None
    turnstile_secret_key: str | None = None
    turnstile_url: str = TURNSTILE_URL
    turnstile_hostnames: tuple[str, ...] = ()

    # Bots
    bots_active: Count = 4
    bot_quota_day: Count = 10_000
    bot_quota_user: Count = 50
    bot_quota_room: Positive = 1
    ai_base_url: str | None = None  # None: scripted
    ai_model: str | None = None
    ai_key: str | None = None

    # Operation
    log_format: LogFormat | None = None  # None: by terminal
    log_level: LogLevel = "info"
    crash_at: str | None = None  # tests only

    @classmethod
    def load(cls, env: Mapping[str, str]) -> Self:
        """Read the `CFM_*` names of `env`, or raise SettingsError.

        Names without the prefix are ignored. Relative paths are taken from the current
        directory now, so that children which run elsewhere mean the same files.
        """
        values = _read(env, cls.__struct_fields__)
        if is_loopback(values.get("host", DEFAULT_HOST)):
            # Everybody has the same address there, and load tests few sessions.
            values.setdefault("max_sockets_per_session", 0)
            values.setdefault("max_sockets_per_address", 0)
        values.setdefault("data_dir", _path("./.cfmessenger"))
        try:
            settings = msgspec.convert(values, cls, strict=False, dec_hook=_as_is)
        except msgspec.ValidationError as error:
            raise SettingsError(_one_line(error)) from None
        settings._check()
        return settings

    def to_env(self) -> dict[str, str]:
        """The variables from which `load` makes an equal struct, secrets included."""
        return {
            _variable(field): _text(value)
            for field in self.__struct_fields__
            if (value := getattr(self, field)) is not None and value != ()
        }

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the bound address."""
        return is_loopback(self.host)

    def _check(self) -> None:
        if self.ray_address and not self.valkey_url:
            # Actors on another node cannot reach a Valkey on our Unix socket.
            raise SettingsError("CFM_RAY_ADDRESS: needs CFM_VALKEY_URL to be set too")
        if self.valkey_replica_url and not self.valkey_url:
            raise SettingsError(
                "CFM_VALKEY_REPLICA_URL: needs CFM_VALKEY_URL to be set too"
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
            (field, "(hidden)" if value and field in _SECRET else value)
            for field in self.__struct_fields__
            for value in (getattr(self, field),)
        ]

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({', '.join(shown)})"


# The URLs are here because they may carry a password.
_SECRET = frozenset(
    {
        "ai_base_url",
        "ai_key",
        "database_url",
        "turnstile_secret_key",
        "valkey_replica_url",
        "valkey_url",
    }
)


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses, an IPv4-mapped one included."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _read(env: Mapping[str, str], fields: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in sorted(env.items()):
        if not name.startswith(PREFIX):
            continue
        field = name.removeprefix(PREFIX).lower()
        if name != _variable(field) or field not in fields:
            raise SettingsError(_unknown(name, fields))
        if text := text.strip():
            try:
                values[field] = _READERS.get(field, _plain)(text)
            except ValueError as error:
                raise SettingsError(f"{name}: {error}") from None
    return values


def _unknown(name: str, fields: tuple[str, ...]) -> str:
    import difflib  # only for this message

    near = difflib.get_close_matches(name.upper(), map(_variable, fields), 1, 0.8)
    hint = f", did you mean {near[0]}?" if near else ""
    return f"{ascii(name)[1:-1]}: expected one of our settings{hint}"


def _variable(field: str) -> str:
    return PREFIX + field.upper()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def _one_line(error: msgspec.ValidationError) -> str:
    expected, _, where = str(error).partition(" - at `$.")
    field = re.match(r"\w+", where)
    assert field is not None, error
    expected = expected.removesuffix(", got `str`")
    return f"{_variable(field[0])}: {expected[0].lower()}{expected[1:]}"


def _as_is(kind: type, value: object) -> object:
    assert isinstance(value, kind)
    return value


def _plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected text without control characters")
    return text


def _choice(kind: Any) -> Callable[[str], str]:
    choices = get_args(kind)

    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"expected {' or '.join(choices)}")
        return text.lower()

    return read


def _flag(text: str) -> bool:
    try:
        return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
    except KeyError:
        raise ValueError("expected 1 or 0") from None


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("expected a number of seconds")
    return number


def _path(text: str) -> Path:
    try:
        return Path(_plain(text)).expanduser().absolute()
    except RuntimeError:
        raise ValueError("expected a path whose ~ is somebody's home") from None


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:%-]{1,255}", text):
        raise ValueError("expected an address or host name without port or brackets")
    return text


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def _url(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        try:
            if urlsplit(_plain(text)).scheme in schemes:
                return text
        except ValueError:
            pass  # urlsplit has its own words
        raise ValueError(f"expected a URL that starts with {' or '.join(schemes)}")

    return read


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(item) for item in _items(text))


def _origin(text: str) -> str:
    """As browsers send it: lower case, no path, no default port."""
    found = re.fullmatch(
        r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?", text.lower()
    )
    if found is None:
        raise ValueError("expected origins like https://example.org, comma-separated")
    scheme, host, port = found.groups()
    default = {"http": ":80", "https": ":443"}[scheme]
    return f"{scheme}://{host}" + ("" if port in (None, default) else port)


def _networks(text: str) -> tuple[str, ...]:
    try:
        return tuple(
            str(ipaddress.ip_network(item, strict=False)) for item in _items(text)
        )
    except ValueError:
        raise ValueError(
            "expected IP addresses or networks like 10.0.0.0/8, comma-separated"
        ) from None


def _hostnames(text: str) -> tuple[str, ...]:
    return tuple(item.lower() for item in _items(_plain(text)))


_valkey_url = _url("valkey", "valkeys", "redis", "rediss", "unix")
_http_url = _url("http", "https")

# Fields that need more than the conversion of text to the field's own type.
_READERS: dict[str, Callable[[str], object]] = {
    "ai_base_url": _http_url,
    "allowed_origins": _origins,
    "chat_rate": Rate.parse,
    "data_dir": _path,
    "database_url": _url("postgresql", "postgres", "sqlite"),
    "drain_s": _number,
    "fsync": _choice(Fsync),
    "hibernate_after": _number,
    "host": _host,
    "location_strict": _flag,
    "log_format": _choice(LogFormat),
    "log_level": _choice(LogLevel),
    "login_rate": Rate.parse,
    "new_room_rate": Rate.parse,
    "nudge_rate": Rate.parse,
    "open_rooms": _flag,
    "placement": _choice(Mode),
    "session_ttl": _number,
    "trusted_proxies": _networks,
    "turnstile_hostnames": _hostnames,
    "turnstile_url": _http_url,
    "users": _path,
    "valkey_replica_url": _valkey_url,
    "valkey_url": _valkey_url,
    "write_rate": Rate.parse,
}
