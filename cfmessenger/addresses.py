"""Addresses as people write them in settings: URLs, origins, networks, host names.

Each reader takes the text of a setting and gives its value, or raises ValueError with
what was expected; none repeats the text, which may hold a password.
"""

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode, urlsplit

from cfmessenger.environment import plain

VALKEY_PARAMETERS = frozenset(
    "username password db replicas sentinel_username sentinel_password ssl_ca_certs "
    "ssl_ca_data ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_ciphers "
    "ssl_keyfile".split()
)
"""What may stand behind the `?` of a Valkey URL. `replicas`: so many confirm what is to
outlive the server; CFM_DURABILITY decides it."""

SENTINEL_SCHEMES = {"valkey-sentinel": "valkey", "valkeys-sentinel": "valkeys"}
"""Of a URL that names Sentinels and a service, and of the servers that they know."""

TLS_SCHEMES = ("valkeys", "rediss", "valkeys-sentinel")

_OF_LIBRARIES = frozenset(
    "protocol client_name lib_name lib_version socket_timeout socket_connect_timeout "
    "socket_keepalive timeout max_connections health_check_interval retry "
    "retry_on_timeout retry_on_error decode_responses encoding".split()
)


def host(text: str) -> str:
    """An address or host name, without port or brackets."""
    if not re.fullmatch(r"[A-Za-z0-9._:%-]{1,255}", text):
        raise ValueError("expected an address or host name without port or brackets")
    return text


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def url_of(*schemes: str) -> Callable[[str], str]:
    """A reader of URLs with one of these schemes."""

    def read(text: str) -> str:
        try:
            if urlsplit(plain(text)).scheme in schemes:
                return text
        except ValueError:
            pass  # urlsplit has its own words
        raise ValueError(f"expected a URL that starts with {' or '.join(schemes)}")

    return read


def origins(text: str) -> tuple[str, ...]:
    """Origins, comma-separated."""
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


def networks(text: str) -> tuple[str, ...]:
    """IP addresses and networks, comma-separated."""
    try:
        return tuple(
            str(ipaddress.ip_network(item, strict=False)) for item in _items(text)
        )
    except ValueError:
        raise ValueError(
            "expected IP addresses or networks like 10.0.0.0/8, comma-separated"
        ) from None


def hostnames(text: str) -> tuple[str, ...]:
    """Host names, comma-separated."""
    return tuple(item.lower() for item in _items(plain(text)))


def valkey_parameters(url: str) -> dict[str, str]:
    """What a Valkey URL says behind its `?`. Raises ValueError for a parameter that is
    not honoured, and so would be missed, or refused by the server at each connection.

    Only a name that a client library has is repeated: a `?` may be a password's.
    """
    parameters = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if parameters.get("protocol") == "2":
        del parameters["protocol"]  # which we speak
    for name in sorted(parameters.keys() - VALKEY_PARAMETERS):
        which = f"parameter {name}" if name in _OF_LIBRARIES else "parameter"
        known = ", ".join(sorted(VALKEY_PARAMETERS))
        raise ValueError(f"the {which} cannot be used in this URL; these can: {known}")
    return parameters


def with_parameters(url: str, **said: str | None) -> str:
    """A URL that says these parameters, too, or instead; None: not that one."""
    base, _, query = url.partition("#")[0].partition("?")
    before: dict[str, str | None] = dict(parse_qsl(query, keep_blank_values=True))
    left = {name: value for name, value in (before | said).items() if value is not None}
    if left == before:
        return url
    return f"{base}?{urlencode(left)}" if left else base


def each_of(url: str) -> list[str]:
    """A URL that names several hosts, separated by commas, as one of each."""
    scheme, colon, rest = url.partition("://")
    found = re.match(r"[^/?#]*", rest)
    assert found is not None  # it may be empty
    who, at, hosts = found[0].rpartition("@")
    tail = rest[found.end() :]
    return [f"{scheme}{colon}{who}{at}{host}{tail}" for host in hosts.split(",")]


def server_url(url: str, at: str) -> str:
    """Of the server at host:port, as this URL (of Sentinels, or of others) reaches its
    servers: user, database, TLS."""
    parts = urlsplit(each_of(url)[0])
    who, sign, _ = parts.netloc.rpartition("@")
    scheme = (SENTINEL_SCHEMES | {"unix": "valkey"}).get(parts.scheme)
    if scheme is None:
        return parts._replace(netloc=f"{who}{sign}{at}").geturl()
    made = f"{scheme}://{who}{sign}{at}" + (f"?{parts.query}" if parts.query else "")
    return with_parameters(made, sentinel_username=None, sentinel_password=None)


def valkey_url(text: str) -> str:
    """Where a Valkey is, with parameters that are honoured."""
    found = url_of(
        *("valkey", "valkeys", "redis", "rediss", "unix"), *SENTINEL_SCHEMES
    )(text)
    valkey_parameters(found)
    if urlsplit(found).scheme in SENTINEL_SCHEMES:
        if not urlsplit(found).path.strip("/"):
            raise ValueError("expected the service behind the Sentinels' /")
    return found


def store_url(text: str) -> str:
    """Where a Valkey is, for Ray; or `none`."""
    return text if text == "none" else _tcp(text)


_tcp = url_of("valkey", "valkeys", "redis", "rediss")
cluster_url = url_of(
    *("tcp", "valkey", "valkeys", "redis", "rediss", "unix"), *SENTINEL_SCHEMES
)
http_url = url_of("http", "https")
database_url = url_of("postgresql", "postgres", "sqlite")


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses, an IPv4-mapped one included."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
