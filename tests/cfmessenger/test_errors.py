"""The table of errors agrees with wire.md, and its exceptions with the table."""

import re

import pytest

from cfmessenger.client.errors import ended_by_close
from cfmessenger.errors import (
    ERRORS,
    CloseCode,
    ProtocolError,
    Unavailable,
    Where,
    codes,
)


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_code_is_upper_snake_with_a_status_and_a_sentence(code: str) -> None:
    row = ERRORS[code]
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", code)
    assert 400 <= row.status < 600
    assert row.message.endswith(".") or ":" in row.message


def test_what_is_worth_a_retry_is_not_the_clients_fault() -> None:
    assert {code for code, row in ERRORS.items() if row.retryable} == {
        "AT_CAPACITY",
        "INTERNAL_ERROR",
        "RATE_LIMITED",
        "STORAGE_UNAVAILABLE",
        "TURNSTILE_UNAVAILABLE",
        "UNAVAILABLE",
    }


def test_a_handshake_is_refused_for_the_first_that_the_contract_names() -> None:
    """The order of wire.md §1's row of the sockets."""
    checked = Where.SOCKET | Where.SESSION | Where.ROOM | Where.ENTRY
    assert codes(checked) == (
        "UPGRADE_REQUIRED",
        "ORIGIN_NOT_ALLOWED",
        "AUTH_REQUIRED",
        "AUTH_EXPIRED",
        "INVALID_ROOM_ID",
        "VALIDATION_ERROR",
        "ROOM_RESERVED",
        "ROOM_NOT_FOUND",
        "NOT_A_PARTICIPANT",
        "RATE_LIMITED",
        "AT_CAPACITY",
        "UNAVAILABLE",
    )


def test_close_codes_tell_whether_to_reconnect() -> None:
    final = {code for code in CloseCode if 4500 <= code < 5000}
    assert final == {
        CloseCode.SESSION_EXPIRED,
        CloseCode.LOGGED_OUT,
        CloseCode.FORBIDDEN,
        CloseCode.ABUSE,
    }
    assert CloseCode.HEARTBEAT_TIMEOUT.value == 4400
    for code in final:
        assert not code.reconnect
        name = "AUTH_EXPIRED" if code == 4500 else code.name
        assert ended_by_close(code, "").code == name


def test_a_protocol_error_names_the_field() -> None:
    error = ProtocolError("VALIDATION_ERROR", "must be short", field="name", id="m1")
    assert error.message == "name: must be short"
    assert str(error) == "VALIDATION_ERROR: name: must be short"
    assert (error.code, error.field, error.id) == ("VALIDATION_ERROR", "name", "m1")
    assert error.row.status == 400


def test_a_protocol_error_has_a_default_message() -> None:
    error = ProtocolError("RATE_LIMITED", retry_after_ms=12)
    assert error.message == ERRORS["RATE_LIMITED"].message
    assert error.retry_after_ms == 12


def test_an_unknown_code_is_our_bug() -> None:
    with pytest.raises(KeyError):
        ProtocolError("NO_SUCH_CODE")


def test_unavailable_is_retryable() -> None:
    error = Unavailable()
    assert (error.code, error.row.status, error.row.retryable) == (
        "UNAVAILABLE",
        503,
        True,
    )
    storage = Unavailable("STORAGE_UNAVAILABLE", "not now")
    assert str(storage) == "STORAGE_UNAVAILABLE: not now"
