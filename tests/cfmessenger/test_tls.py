"""Whose certificates are trusted, and when files that change count."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from cfmessenger.tls import Files, Trust, days_left, why
from tests.authority import MISSING, Authority

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")


def shake(caller: Trust, server: Trust) -> None:
    """A handshake in memory, to its end. Raises ssl.SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        caller.calling().wrap_bio(back, there),
        server.serving().wrap_bio(there, back, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert ends[0].version() == "TLSv1.3"
    ends[1].write(b"x")
    assert ends[0].read() == b"x"
    session = ends[0].session
    assert session is not None and not session.has_ticket, "to come back with"


def test_machines_of_one_authority_trust_each_other(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    one, two = Trust(ours.sign("one")), Trust(ours.sign("two", "IP:10.0.0.2"))
    shake(one, two)
    shake(two, one)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("expired", "certificate has expired"),
        ("foreign", "unable to get local issuer certificate"),
        ("for serving alone", "unsuitable certificate purpose"),
    ],
)
def test_who_has_no_good_certificate_is_refused(
    tmp_path: Path, wrong: str, says: str
) -> None:
    (tmp_path / "theirs").mkdir()
    ours, theirs = Authority(tmp_path), Authority(tmp_path / "theirs")
    files = {
        "expired": lambda: ours.sign("x", days=-1),
        "foreign": lambda: Files(ours.pem, *_pair(theirs.sign("x"))),
        "for serving alone": lambda: ours.sign("x", purpose="serverAuth"),
    }[wrong]()
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake(Trust(files), Trust(ours.sign("server")))
    assert why(caught.value) == f"its certificate is not good: {says}"


def test_a_server_for_calling_alone_is_no_server(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    server = Trust(ours.sign("server", purpose="clientAuth"))
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake(Trust(ours.sign("caller")), server)


def test_a_certificate_that_was_renewed_is_shown_from_the_next_connection_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = Authority(tmp_path)
    one, two = Trust(ours.sign("one", days=1)), Trust(ours.sign("two"))
    shake(one, two)
    before = one.calling()
    assert one.calling() is before, "files that have not changed are not read again"
    ours.sign("one", days=2)
    caplog.set_level("INFO")
    assert one.calling() is not before
    assert caplog.messages == ["certificates were renewed"]
    shake(one, two)


def test_who_the_replaced_authority_signed_is_refused_from_the_next_connection_on(
    tmp_path: Path,
) -> None:
    ours = Authority(tmp_path)
    old = {name: ours.sign(name) for name in ("one", "two")}
    (tmp_path / "kept").mkdir()
    kept = Files(
        *(
            Path(shutil.copy(each, tmp_path / "kept"))
            for each in (old["one"].ca, old["one"].cert, old["one"].key or "")
        )
    )
    one, two, late = Trust(old["one"]), Trust(old["two"]), Trust(kept)
    shake(one, two)
    shake(late, two)
    # While one takes the place of the other both are trusted.
    first = ours.pem.read_text()
    newer = Authority(tmp_path)
    newer.pem.write_text(newer.pem.read_text() + first)
    shake(late, two)
    newer.sign("one")
    shake(one, two)
    newer.sign("two")
    # And then the newer one alone.
    newer.pem.write_text(newer.pem.read_text().removesuffix(first))
    shake(one, two)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(one, late)
    with pytest.raises(ssl.SSLError):
        shake(late, two)


def test_files_that_are_half_written_change_nothing_and_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = Authority(tmp_path)
    one, two = Trust(ours.sign("one")), Trust(ours.sign("two"))
    before = one.calling()
    files = ours.files("one")
    good = files.cert.read_bytes()
    files.cert.write_bytes(ours.files("two").cert.read_bytes())  # not of this key
    for _ in range(3):
        assert one.calling() is before
    assert len(caplog.messages) == 1
    assert "new certificates cannot be used: " in caplog.text
    files.cert.write_bytes(good)
    shake(one, two)


def test_files_that_cannot_be_used_at_all_are_an_error(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    good = ours.sign("one")
    for files in (
        Files(tmp_path / "nowhere", good.cert, good.key),
        Files(good.ca, tmp_path / "nowhere", good.key),
        Files(good.ca, good.cert, good.cert),
    ):
        with pytest.raises(OSError):
            Trust(files).calling()


def test_a_key_behind_a_password_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    files = ours.sign("one")
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", str(files.key)]
    subprocess.run([*command, "-out", str(locked)], check=True, capture_output=True)
    with pytest.raises(OSError, match="password"):
        Trust(Files(files.ca, files.cert, locked)).calling()


def test_a_key_may_be_in_the_certificates_file(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    files = ours.sign("one")
    assert files.key is not None
    both = tmp_path / "both.pem"
    both.write_text(files.key.read_text() + files.cert.read_text())
    shake(Trust(Files(files.ca, both)), Trust(ours.sign("two")))


def test_what_is_left_of_a_certificate_is_told_in_days(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    assert 9.9 < days_left(ours.sign("one", days=10).cert) < 10.1
    assert days_left(ours.sign("two", days=-1).cert) < 0
    with pytest.raises(OSError):
        days_left(ours.files("two").key or tmp_path)


def _pair(files: Files) -> tuple[Path, Path | None]:
    return files.cert, files.key
