"""Settings: every one of them, its default, and what is refused and how."""

import os
from pathlib import Path

import pytest

from cfmessenger import addresses
from cfmessenger.addresses import is_loopback
from cfmessenger.environment import SettingsError
from cfmessenger.settings import ABOUT, Rate, Settings

EVERYTHING = {
    "CFM_HOST": "0.0.0.0",
    "CFM_PORT": "9001",
    "CFM_GATEWAYS": "3",
    "CFM_DATA_DIR": "/var/lib/cfm",
    "CFM_VALKEY_URL": "rediss://cfm:hush1@valkey.example:6379/0",
    "CFM_VALKEY_REPLICA_URL": "rediss://cfm:hush2@replica.example:6379/0",
    "CFM_VALKEY_CA": "/etc/cfm/ca.pem",
    "CFM_VALKEY_CERT": "/etc/cfm/cert.pem",
    "CFM_VALKEY_KEY": "/etc/cfm/key.pem",
    "CFM_FSYNC": "everysec",
    "CFM_DURABILITY": "replica",
    "CFM_DURABILITY_REPLICAS": "2",
    "CFM_DATABASE_URL": "postgresql://cfm:hush3@db.example/cfm",
    "CFM_RAY_ADDRESS": "head.example:6379",
    "CFM_RAY_PORT": "6381",
    "CFM_RAY_NAME": "green-2",
    "CFM_RAY_STORE_URL": "none",
    "CFM_CLUSTER": "tcp://node.example:6390",
    "CFM_NODE_ADDRESS": "10.0.0.7",
    "CFM_NAMESPACE_PORT": "0",
    "CFM_LINK_PORTS": "7000-7999",
    "CFM_TLS_CA": "/etc/cfm/tls/ca.pem",
    "CFM_TLS_CERT": "/etc/cfm/tls/cert.pem",
    "CFM_TLS_KEY": "/etc/cfm/tls/key.pem",
    "CFM_PLACEMENT": "pooled",
    "CFM_POOL_SIZE": "7",
    "CFM_OWN_ROOMS": "0",
    "CFM_HOT_SHARE": "25",
    "CFM_HOT_HOLD": "20",
    "CFM_CALM_AFTER": "0.5",
    "CFM_WARM_WORKERS": "0",
    "CFM_HIBERNATE_AFTER": "0.25",
    "CFM_LOG_LENGTH": "1000",
    "CFM_DRAIN_S": "0",
    "CFM_CUT_OFF_S": "0",
    "CFM_HEAL_S": "0",
    "CFM_LOG_FORMAT": "json",
    "CFM_LOG_LEVEL": "DEBUG",
    "CFM_CHAT_RATE": "0",
    "CFM_NUDGE_RATE": "1/60",
    "CFM_PRESENCE_ALL": "300",
    "CFM_LOGIN_RATE": "100/1",
    "CFM_SESSION_TTL": "2",
    "CFM_MAX_SESSIONS_PER_USER": "7",
    "CFM_WRITE_RATE": "50/1",
    "CFM_ORDER_QUOTA": "10",
    "CFM_ORDER_QUOTA_BYTES": "100000",
    "CFM_NEW_ROOM_RATE": "0",
    "CFM_ALLOWED_ORIGINS": "https://Chat.example, http://[::1]:5173,https://a.b:443",
    "CFM_TRUSTED_PROXIES": "10.0.0.1/8,::1",
    "CFM_MAX_SOCKETS_PER_SESSION": "5",
    "CFM_MAX_SOCKETS_PER_ADDRESS": "0",
    "CFM_MAX_ACTIVE_ROOMS": "100",
    "CFM_TURNSTILE_SITE_KEY": "site",
    "CFM_TURNSTILE_SECRET_KEY": "hush4",
    "CFM_TURNSTILE_URL": "http://127.0.0.1:9/siteverify",
    "CFM_TURNSTILE_HOSTNAMES": "Chat.example",
    "CFM_LOCATION_HINT": "enam",
    "CFM_LOCATION_STRICT": "1",
    "CFM_OPEN_ROOMS": "true",
    "CFM_USERS": "/etc/cfm/users.json",
    "CFM_BOTS_ACTIVE": "2",
    "CFM_BOT_QUOTA_DAY": "10",
    "CFM_BOT_QUOTA_USER": "1",
    "CFM_BOT_QUOTA_ROOM": "2",
    "CFM_AI_BASE_URL": "https://user:hush5@ai.example/v1",
    "CFM_AI_MODEL": "small",
    "CFM_AI_KEY": "hush6",
    "CFM_CRASH_AT": "append",
}


def refusal(**env: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load({f"CFM_{name}": value for name, value in env.items()})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_setting_is_tried_here() -> None:
    fields = {f"CFM_{field.upper()}" for field in Settings.__struct_fields__}
    assert fields == set(EVERYTHING)


def test_defaults_are_the_documented_ones() -> None:
    settings = Settings.load({"PATH": "/bin", "HOME": "/root"})
    assert (settings.host, settings.port, settings.gateways) == ("127.0.0.1", 8000, 1)
    assert settings.data_dir == Path(".cfmessenger").absolute()
    assert settings.valkey_url is settings.ray_address is settings.database_url is None
    assert (settings.fsync, settings.placement) == ("always", "auto")
    assert (settings.warm_workers, settings.hibernate_after) == (2, 10)
    assert (settings.log_length, settings.drain_s) == (10_000, 20)
    assert settings.chat_rate == Rate(20, 10)
    assert settings.nudge_rate == Rate(3, 10)
    assert settings.login_rate == Rate(5, 10)
    assert settings.session_ttl == 1200
    assert (settings.location_hint, settings.location_strict) == ("uk", False)
    assert not settings.open_rooms
    bots = settings.bots_active, settings.bot_quota_day, settings.bot_quota_user
    assert bots == (4, 10_000, 50)
    assert settings.bot_quota_room == 1
    assert settings.pool_size >= 1
    assert (settings.hot_share, settings.hot_hold) == (4, 50)
    assert settings.calm_after == 180
    assert 0 < settings.own_rooms <= 8 * (os.cpu_count() or 1)


def test_everything_can_be_set_and_handed_to_a_child_process() -> None:
    settings = Settings.load(EVERYTHING)
    assert settings.data_dir == Path("/var/lib/cfm")
    assert settings.chat_rate.unlimited and not settings.nudge_rate.unlimited
    assert settings.nudge_rate.seconds == 60
    assert settings.allowed_origins == (
        "https://chat.example",
        "http://[::1]:5173",
        "https://a.b",
    )
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert settings.log_level == "debug"
    assert Settings.load(settings.to_env()) == settings
    assert set(settings.to_env()) == set(EVERYTHING)


def test_urls_say_all_that_is_to_be_known_wherever_they_go() -> None:
    settings = Settings.load(EVERYTHING)
    tls = (
        "ssl_ca_certs=%2Fetc%2Fcfm%2Fca.pem&ssl_certfile=%2Fetc%2Fcfm%2Fcert.pem"
        "&ssl_keyfile=%2Fetc%2Fcfm%2Fkey.pem"
    )
    assert settings.valkey_url == f"{EVERYTHING['CFM_VALKEY_URL']}?{tls}&replicas=2"
    assert (
        settings.valkey_replica_url == f"{EVERYTHING['CFM_VALKEY_REPLICA_URL']}?{tls}"
    )
    plain = "valkey://cfm:p%3F@h/1?db=2"
    assert Settings.load({"CFM_VALKEY_URL": plain}).valkey_url == plain
    # What the settings say counts, not what is left of a former level.
    former = Settings.load({"CFM_VALKEY_URL": f"{plain}&replicas=3"})
    assert former.valkey_url == plain


def test_a_child_of_a_default_start_loads_the_equal_settings() -> None:
    settings = Settings.load({})
    assert Settings.load(settings.to_env()) == settings


SECRETS = {
    name: value
    for name, value in EVERYTHING.items()
    if ABOUT[name.removeprefix("CFM_").lower()].hides
}


def test_every_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    assert sum("hush" in value for value in EVERYTHING.values()) == 6
    assert {name for name, value in EVERYTHING.items() if "hush" in value} <= set(
        SECRETS
    )
    env = dict(EVERYTHING)
    for name in SECRETS:
        file = tmp_path / name
        file.write_text(f"{env.pop(name)}\n")
        env[f"{name}_FILE"] = str(file)
    assert Settings.load(env) == Settings.load(EVERYTHING)


def test_what_is_wrong_with_a_secrets_file_is_said_without_what_is_in_it(
    tmp_path: Path,
) -> None:
    good, empty, binary = tmp_path / "good", tmp_path / "empty", tmp_path / "binary"
    good.write_text("hush")
    empty.write_text(" \n")
    binary.write_bytes(b"hush\xff")
    long = tmp_path / "long"
    long.write_text("hush" * 20_000)
    for file, more, says in (
        (good, {"AI_KEY": "hush"}, "CFM_AI_KEY is set too; leave one out"),
        (tmp_path / "none", {}, "cannot be read: No such file or directory"),
        (tmp_path, {}, "cannot be read: Is a directory"),
        (empty, {}, "the file is empty"),
        (binary, {}, "expected a file of text"),
        (long, {}, "expected a file of 65536 bytes at most"),
    ):
        message = refusal(AI_KEY_FILE=str(file), **more)
        assert message == f"CFM_AI_KEY_FILE: {says}"
    assert refusal(PORT_FILE=str(good)).startswith("CFM_PORT_FILE: expected one of our")
    good.write_text("localhost:6379 hush")
    assert "hush" not in refusal(VALKEY_URL_FILE=str(good))
    assert Settings.load({"CFM_AI_KEY_FILE": " ", "CFM_AI_KEY": "hush"}).ai_key


def test_an_empty_value_counts_as_not_set() -> None:
    empty = dict.fromkeys(EVERYTHING, " ")
    assert Settings.load(empty) == Settings.load({})


@pytest.mark.parametrize(
    "host,limits",
    [("127.0.0.1", (0, 0)), ("::1", (0, 0)), ("localhost", (0, 0)), ("::", (20, 200))],
)
def test_sockets_are_not_limited_by_default_on_loopback(
    host: str, limits: tuple[int, int]
) -> None:
    env = {"CFM_HOST": host, "CFM_TURNSTILE_SECRET_KEY": "real"}
    found = Settings.load(env)
    assert (found.max_sockets_per_session, found.max_sockets_per_address) == limits


@pytest.mark.parametrize(
    "name,value,expected",
    [
        ("PORT", "http", "expected `int`"),
        ("PORT", "65536", "expected `int` <= 65535"),
        ("GATEWAYS", "0", "expected `int` >= 1"),
        ("FSYNC", "no", "expected always or everysec"),
        ("DURABILITY", "none", "expected disk or replica"),
        ("DURABILITY", "replica", "`replica` needs CFM_VALKEY_URL to be set too"),
        ("DURABILITY_REPLICAS", "0", "expected `int` >= 1"),
        ("VALKEY_CA", "/ca.pem", "needs a valkeys:// URL in CFM_VALKEY_URL"),
        ("VALKEY_CERT", "/cert.pem", "needs a valkeys:// URL in CFM_VALKEY_URL"),
        ("VALKEY_KEY", "/key.pem", "needs CFM_VALKEY_CERT to be set too"),
        (
            "VALKEY_URL",
            "valkey-sentinel://h:26379",
            "expected the service behind the Sentinels' /",
        ),
        ("TLS_CA", "/ca.pem", "needs CFM_TLS_CERT to be set too"),
        ("TLS_CERT", "/cert.pem", "needs CFM_TLS_CA to be set too"),
        ("TLS_KEY", "/key.pem", "needs CFM_TLS_CERT to be set too"),
        ("LINK_PORTS", "7000-", "expected ports like 7000-7999"),
        ("LINK_PORTS", "7999-7000", "expected ports like 7000-7999"),
        ("LINK_PORTS", "0-65536", "expected ports like 7000-7999"),
        ("PLACEMENT", "spread", "expected auto or dedicated or pooled"),
        ("OWN_ROOMS", "-1", "expected `int` >= 0"),
        ("HOT_SHARE", "101", "expected `int` <= 100"),
        ("HOT_HOLD", "0", "expected `int` >= 1"),
        ("CALM_AFTER", "0", "expected `float` > 0.0"),
        ("LOG_FORMAT", "xml", "expected console or json"),
        ("LOG_LENGTH", "999", "expected `int` >= 1000"),
        ("HIBERNATE_AFTER", "nan", "expected a number of seconds"),
        ("HIBERNATE_AFTER", "inf", "expected a number of seconds"),
        ("HIBERNATE_AFTER", "0", "expected `float` > 0.0"),
        ("DRAIN_S", "-1", "expected `float` >= 0.0"),
        ("SESSION_TTL", "43201", "expected `float` <= 43200.0"),
        ("OPEN_ROOMS", "maybe", "expected 1 or 0"),
        ("CHAT_RATE", "20", "expected count/seconds, like 20/10, or 0 for no limit"),
        ("NUDGE_RATE", "-3/10", "expected count/seconds, like 20/10, or 0 for no"),
        ("WRITE_RATE", "5/0", "expected count/seconds, like 20/10, or 0 for no limit"),
        ("NEW_ROOM_RATE", "5", "expected count/seconds, like 20/10, or 0 for no limit"),
        ("ORDER_QUOTA", "-1", "expected `int` >= 0"),
        ("ORDER_QUOTA_BYTES", "1MB", "expected `int`"),
        ("MAX_SESSIONS_PER_USER", "-1", "expected `int` >= 0"),
        ("LOGIN_RATE", "5/0", "expected count/seconds, like 20/10, or 0 for no limit"),
        ("VALKEY_URL", "localhost:6379", "expected a URL that starts with valkey or"),
        ("VALKEY_URL", "valkey://h?protocol=3", "the parameter protocol cannot be"),
        ("VALKEY_URL", "unix:///s?client_name=", "the parameter client_name cannot"),
        ("VALKEY_REPLICA_URL", "valkey://h?x=1", "the parameter cannot be used"),
        ("VALKEY_REPLICA_URL", "valkey-cluster://h", "a replica is one server"),
        ("VALKEY_URL", "valkey-cluster://h:x,g", "expected servers like"),
        ("VALKEY_URL", "valkey-cluster://h,", "expected servers like"),
        ("VALKEY_URL", "valkey-cluster://h/1", "a Valkey Cluster has no databases"),
        ("VALKEY_URL", "valkey-cluster://h?db=1", "a Valkey Cluster has no databases"),
        ("VALKEY_URL", "valkey-cluster://h?x=1", "the parameter cannot be used"),
        ("RAY_STORE_URL", "valkey-cluster://h", "Ray cannot use a Valkey Cluster"),
        ("CLUSTER", "valkey-cluster://", "expected servers like"),
        ("TURNSTILE_URL", "http://[x", "expected a URL that starts with http or https"),
        ("ALLOWED_ORIGINS", "*", "expected origins like https://example.org"),
        ("ALLOWED_ORIGINS", "https://a.b/path", "expected origins like https://"),
        ("TRUSTED_PROXIES", "proxy", "expected IP addresses or networks"),
        ("HOST", "[::1]:80", "expected an address or host name"),
        ("LOCATION_HINT", "UK 1", "expected `str` matching regex"),
        ("AI_MODEL", "a\nb", "expected text without control characters"),
        ("RAY_ADDRESS", "auto", "needs CFM_VALKEY_URL"),
        ("VALKEY_REPLICA_URL", "unix:///tmp/r.sock", "needs CFM_VALKEY_URL"),
        ("BOT_QUOTA_ROOM", "0", "expected `int` >= 1"),
        ("AI_BASE_URL", "http://127.0.0.1:11434/v1", "needs CFM_AI_MODEL"),
    ],
)
def test_a_bad_value_is_refused_naming_variable_and_expectation(
    name: str, value: str, expected: str
) -> None:
    assert refusal(**{name: value}).startswith(f"CFM_{name}: {expected}")


def test_a_valkey_cluster_is_named_by_some_of_its_servers() -> None:
    url = "valkeys-cluster://u:p%2C@h1:1,[fd00::1]:2,h3?ssl_cert_reqs=none"
    assert Settings.load({"CFM_VALKEY_URL": url}).valkey_url == url
    assert Settings.load({"CFM_CLUSTER": url}).cluster == url
    seeds = addresses.cluster_seeds(url)
    assert seeds == [("h1", 1), ("fd00::1", 2), ("h3", 6379)]
    assert addresses.url_at(url, *seeds[1]) == (
        "valkeys://u:p%2C@[fd00::1]:2?ssl_cert_reqs=none"
    )
    text = refusal(VALKEY_URL="valkey-cluster://cfm:s3cr3t@h:x")
    assert "CFM_VALKEY_URL" in text and "s3cr3t" not in text
    both = {"VALKEY_URL": url, "VALKEY_REPLICA_URL": "valkey://h"}
    assert "cannot be used with a Valkey Cluster" in refusal(**both)


def test_a_valkey_url_may_say_what_is_honoured() -> None:
    url = "valkeys://h:1/2?db=3&protocol=2&ssl_cert_reqs=none&username=u&password=p"
    assert Settings.load({"CFM_VALKEY_URL": url}).valkey_url == url
    text = refusal(VALKEY_URL="valkey://cfm:s3?cr3t=x@h")
    assert "cr3t" not in text, "a question mark may be a password's"


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    assert refusal(CHATRATE="1/1").endswith("did you mean CFM_CHAT_RATE?")
    assert refusal(port="1").startswith("CFM_port: expected one of our settings")
    assert refusal(**{"X\n": "1"}).startswith("CFM_X\\n: ")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "chat.example"])
def test_beyond_loopback_a_real_turnstile_secret_is_needed(host: str) -> None:
    assert refusal(HOST=host).startswith("CFM_TURNSTILE_SECRET_KEY: must be set")
    for digit in "123":
        secret = f"{digit}x0000000000000000000000000000000AA"
        said = refusal(HOST=host, TURNSTILE_SECRET_KEY=secret)
        assert said.startswith("CFM_TURNSTILE_SECRET_KEY: a published test secret")
        Settings.load({"CFM_TURNSTILE_SECRET_KEY": secret})
    Settings.load({"CFM_HOST": host, "CFM_TURNSTILE_SECRET_KEY": "0xReal"})


def test_loopback_is_known_in_every_spelling() -> None:
    for host in ("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "LOCALHOST"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "::ffff:192.0.2.1", "localhost.example", ""):
        assert not is_loopback(host)


def test_secrets_are_neither_in_repr_nor_in_a_refusal() -> None:
    settings = Settings.load(EVERYTHING)
    assert "hush" not in repr(settings) and "hush" not in str(settings)
    assert "hush" not in str(settings.__rich_repr__())
    assert "port=9001" in repr(settings)
    for name, value in EVERYTHING.items():
        if "hush" in value:
            assert "hush" not in refusal(**{name.removeprefix("CFM_"): value + "\x07"})
