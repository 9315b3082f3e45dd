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

TLS_SCHEMES = ("valkeys", "rediss", "valkeys-sentinel", "valkeys-cluster")

CLUSTER_SCHEMES = ("valkey-cluster", "valkeys-cluster")
"""Of a Valkey Cluster's URL; the second one speaks TLS."""

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
    query = url.partition("#")[0].partition("?")[2]
    parameters = dict(parse_qsl(query, keep_blank_values=True))
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


def is_valkey_cluster(url: str) -> bool:
    """Whether a Valkey URL means a Valkey Cluster."""
    return url.partition("://")[0] in CLUSTER_SCHEMES


def _cluster_parts(url: str) -> tuple[str, str, str]:
    """What stands before the servers, the servers, what stands behind them."""
    scheme, _, rest = url.partition("://")
    found = re.match(r"[^/?#]*", rest)
    assert found is not None
    user, at, servers = found[0].rpartition("@")
    head = f"{scheme.removesuffix('-cluster')}://{user}{at}"
    return head, servers, rest[found.end() :]


def cluster_seeds(url: str) -> list[tuple[str, int]]:
    """The servers that a `valkey-cluster://` URL names, as host and port: any of them
    says where the others are. Raises ValueError for a URL that cannot be meant."""
    _, servers, behind = _cluster_parts(url)
    if behind.partition("?")[0].strip("/"):
        raise ValueError("a Valkey Cluster has no databases: nothing behind its hosts")
    if "db" in valkey_parameters(url):
        raise ValueError("a Valkey Cluster has no databases: no parameter db")
    seeds = []
    for item in servers.split(","):
        found = re.fullmatch(
            r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.%]+\])(?::([0-9]{1,5}))?", item
        )
        if found is None or not 0 < int(found[2] or 6379) < 65536:
            raise ValueError(
                "expected servers like valkey-cluster://host1:6379,host2:6379, "
                "comma-separated"
            )
        seeds.append((found[1].strip("[]"), int(found[2] or 6379)))
    return seeds


def url_at(url: str, host: str, port: int) -> str:
    """The URL of one server of the Valkey Cluster that `url` names."""
    head, _, behind = _cluster_parts(url)
    return f"{head}{f'[{host}]' if ':' in host else host}:{port}{behind}"


def valkey_url(text: str) -> str:
    """Where a Valkey or a Valkey Cluster is, with parameters that are honoured."""
    if is_valkey_cluster(plain(text)):
        cluster_seeds(text)
        return text
    single = ("valkey", "valkeys", "redis", "rediss", "unix")
    found = url_of(*single, *SENTINEL_SCHEMES, *CLUSTER_SCHEMES[:1])(text)
    valkey_parameters(found)
    if urlsplit(found).scheme in SENTINEL_SCHEMES:
        if not urlsplit(found).path.strip("/"):
            raise ValueError("expected the service behind the Sentinels' /")
    return found


def replica_url(text: str) -> str:
    """Where a replica is; of a Valkey Cluster there is none to name."""
    if is_valkey_cluster(text):
        raise ValueError("a replica is one server; a Valkey Cluster is not")
    return valkey_url(text)


def store_url(text: str) -> str:
    """Where a Valkey is, for Ray; or `none`."""
    if is_valkey_cluster(text):
        raise ValueError(
            "Ray cannot use a Valkey Cluster: name a Valkey of its own, or none"
        )
    return text if text == "none" else _tcp(text)


def cluster_url(text: str) -> str:
    """Where a cluster of ours is: a namespace server of it, or its Valkey."""
    return text if is_valkey_cluster(text) and valkey_url(text) else _cluster(text)


_tcp = url_of("valkey", "valkeys", "redis", "rediss")
_cluster = url_of(
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
