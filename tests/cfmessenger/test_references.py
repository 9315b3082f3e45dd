"""What an actor's process reads where it runs, and what is said if it is not there."""

from pathlib import Path

import pytest

from cfmessenger.environment import SettingsError
from cfmessenger.references import SECRETS, kept_for_actors, own, trust

ENV = {
    "CFM_VALKEY_URL": "valkeys://u:hush1@v:1",
    "CFM_VALKEY_CA": "/ca.pem",
    "CFM_AI_BASE_URL": "https://ai.example/v1",
    "CFM_AI_MODEL": "small",
    "CFM_AI_KEY": "hush2",
    "CFM_TLS_CA": "/tls/ca.pem",
    "CFM_TLS_CERT": "/tls/cert.pem",
}
REST = {
    "CFM_TURNSTILE_SECRET_KEY": "hush3",
    "CFM_DATABASE_URL": "postgresql://u:hush4@d/x",
    "CFM_HOST": "0.0.0.0",
    "PATH": "/bin",
}


def test_a_machines_file_says_what_its_environment_does_and_no_more(
    tmp_path: Path,
) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(kept_for_actors(ENV | REST))
    for secret in ("hush3", "hush4", "0.0.0.0"):
        assert secret not in file.read_text()
    found = own({SECRETS: str(file), "CFM_VALKEY_URL": "valkey://not-this-one"})
    assert found == own(ENV | REST)
    assert found.valkey_url == "valkeys://u:hush1@v:1?ssl_ca_certs=%2Fca.pem"
    assert (found.ai_base_url, found.ai_key) == ("https://ai.example/v1", "hush2")
    assert found.tls is not None and found.tls.ca == Path("/tls/ca.pem")


def test_a_secret_may_stand_in_a_file_there_too(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("valkey://u:hush@v:1\n")
    found = own({"CFM_VALKEY_URL_FILE": str(tmp_path / "url")})
    assert found.valkey_url == "valkey://u:hush@v:1"


def test_what_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("{")
    for env, says in (
        ({}, "CFM_VALKEY_URL: not set for the workers of this Ray"),
        ({SECRETS: str(tmp_path / "nowhere")}, f"{SECRETS}: cannot be read: No such"),
        ({SECRETS: str(broken)}, f"{SECRETS}: cannot be read: not as written"),
    ):
        with pytest.raises(SettingsError) as caught:
            own(env)
        assert str(caught.value).startswith(says)
        assert "\n" not in str(caught.value)


def test_who_connects_without_settings_knows_whom_to_trust() -> None:
    assert trust(REST) is None
    assert trust(ENV) is not None
    with pytest.raises(SettingsError, match="CFM_TLS_CA: needs CFM_TLS_CERT"):
        trust({"CFM_TLS_CA": "/tls/ca.pem"})
