"""What travels to an actor, and what it is completed with where it runs."""

from pathlib import Path

import msgspec
import pytest

from actors.host_settings import HostSettings
from cfmessenger.environment import SettingsError
from cfmessenger.placement import Placement
from cfmessenger.settings import Ports, Settings
from cfmessenger.tls import Files

NODE = {
    "CFM_VALKEY_URL": "valkeys://u:hush@kappa:1",
    "CFM_VALKEY_CA": "/kappa/ca.pem",
    "CFM_DURABILITY": "replica",
    "CFM_DURABILITY_REPLICAS": "2",
    "CFM_LINK_PORTS": "7000-7999",
    "CFM_TLS_CA": "/kappa/tls.pem",
    "CFM_TLS_CERT": "/kappa/cert.pem",
}
THERE = {
    "CFM_VALKEY_URL": "valkeys://u:hush@two:1",
    "CFM_VALKEY_CA": "/two/ca.pem",
    "CFM_TLS_CA": "/two/tls.pem",
    "CFM_TLS_CERT": "/two/cert.pem",
    "CFM_TLS_KEY": "/two/key.pem",
}


def sent(**env: str) -> bytes:
    made = HostSettings.of(Settings.load(NODE | env))
    return msgspec.msgpack.encode(made.for_actor("rooms:0", Placement()).on_the_way())


def test_nothing_secret_and_nothing_of_one_machine_travels() -> None:
    told = sent()
    for each in (b"hush", b"kappa"):
        assert each not in told


def test_an_actor_is_completed_by_the_machine_where_it_runs() -> None:
    found = msgspec.msgpack.decode(sent(), type=HostSettings).completed(THERE)
    # Who made it says what an acknowledgement means.
    assert found.valkey_url == (
        "valkeys://u:hush@two:1?ssl_ca_certs=%2Ftwo%2Fca.pem&replicas=2"
    )
    files = (Path("/two/tls.pem"), Path("/two/cert.pem"), Path("/two/key.pem"))
    assert found.tls == Files(*files)
    assert found.link_ports == Ports(7000, 7999)
    assert found.actor == "rooms:0"


def test_a_machine_may_not_promise_more_than_who_made_the_actor() -> None:
    told = msgspec.msgpack.decode(sent(CFM_DURABILITY="disk"), type=HostSettings)
    there = {**THERE, "CFM_VALKEY_URL": "valkeys://u:hush@two:1?replicas=3"}
    assert "replicas" not in told.completed(there).valkey_url


def test_a_machine_that_says_nothing_is_told_what_to_say() -> None:
    told = msgspec.msgpack.decode(sent(), type=HostSettings)
    with pytest.raises(SettingsError, match="CFM_VALKEY_URL: not set for the workers"):
        told.completed({"PATH": "/bin"})
