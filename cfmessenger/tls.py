"""TLS between the machines of a cluster: who is trusted, and with which files.

One private authority is the domain of trust: it signs the machines of one cluster and
nobody else, so its signature is all that is asked for, of both ends. Names are not
compared: actors and namespace servers are reached by addresses that come and go, and a
name would prove nothing that the authority has not said by signing. What a certificate
may be used for is (serving, calling), where it says so. Only TLS 1.3 is spoken, and no
session is resumed: each connection shows its certificate again.

Files are looked at for each connection and read again when they have changed, so a
certificate is renewed, and an authority replaced, without a restart; connections that
live on keep what they began with. Must not connect anything.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from pathlib import Path

import msgspec

logger = logging.getLogger("cfmessenger.tls")


class Files(msgspec.Struct, frozen=True):
    """What `CFM_TLS_*` name: PEM files. `ca` may hold several authorities, as while one
    takes the place of another. `key` None: it is in `cert`."""

    ca: Path
    cert: Path
    key: Path | None = None


Look = tuple[tuple[int, int, int], ...]
"""Of each file its number, size and time of change."""


class Trust:
    """The two kinds of context, made of what the files hold now."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._seen: Look | None = None  # of the files that the contexts are made of
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None = None  # likewise
        self._told: str = ""  # why the newest files are not used; "": they are

    def calling(self) -> ssl.SSLContext:
        """For who connects. Raises OSError for files that cannot be used, when there
        were no good ones before."""
        return self._newest()[0]

    def serving(self) -> ssl.SSLContext:
        """For who is connected to, and wants a certificate of the caller. Raises
        likewise."""
        return self._newest()[1]

    def _newest(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        try:
            seen = self._look()
            if self._contexts is None or seen != self._seen:
                contexts = self._made(True), self._made(False)
                if self._contexts is not None:
                    logger.info("certificates were renewed")
                self._contexts, self._seen = contexts, seen
            self._told = ""
        except OSError as error:
            if self._contexts is None:
                raise
            # They may be half written; what was good is good until they are.
            if (told := why(error)) != self._told:
                logger.warning("new certificates cannot be used: %s", told)
            self._told = told
        return self._contexts

    def _look(self) -> Look:
        files = (self._files.ca, self._files.cert, self._files.key)
        stats = [os.stat(each) for each in files if each is not None]
        return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)

    def _made(self, calls: bool) -> ssl.SSLContext:
        kind = ssl.PROTOCOL_TLS_CLIENT if calls else ssl.PROTOCOL_TLS_SERVER
        context = ssl.SSLContext(kind)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if not calls:
            context.num_tickets = 0
        context.load_verify_locations(self._files.ca)
        context.load_cert_chain(self._files.cert, self._files.key, _no_password)
        return context


def _no_password() -> str:
    # Else OpenSSL would ask on the terminal, and a server would wait for ever.
    raise ssl.SSLError("the key is locked by a password")


def why(error: OSError) -> str:
    """In a few words what is wrong, of TLS or of the connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        said = (error.reason or str(error)).replace("_", " ").lower()
        if error.library != "SSL":
            return f"a file is not good: {said}"
        alert = said.partition(" alert ")[2]
        return f"it refuses our certificate: {alert}" if alert else f"no TLS: {said}"
    if isinstance(error, ConnectionError) and error.errno is None:
        return "it hung up in the middle of the handshake"
    return error.strerror or str(error) or type(error).__name__


def days_left(cert: Path) -> float:
    """Until the first certificate in this file ends; negative: since then. Raises
    OSError."""
    decode = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
    ends: str = decode(str(cert))["notAfter"]
    return (ssl.cert_time_to_seconds(ends) - time.time()) / 86400
