"""Turnstile: is there a person behind this login? Asked of Cloudflare's siteverify.

Fails closed. `TURNSTILE_FAILED` is the visitor's (a wrong, spent or foreign token),
`TURNSTILE_UNAVAILABLE` is not (no answer, a broken answer, our own secret refused): it
never passes, and it never blames the visitor. A call has 5 s and is repeated once with
the same idempotency key, so that a lost answer does not spend the token. Cloudflare's
published test secrets are answered here without a call; without any secret (allowed on
a loopback bind only) every non-empty token passes.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

import httpx2
import msgspec

from cfmessenger.accounts.session_names import token_hash
from cfmessenger.accounts.spent import Spent
from cfmessenger.errors import ProtocolError, Unavailable
from cfmessenger.settings import TURNSTILE_TEST_SECRETS, TURNSTILE_URL
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey
from cfmessenger.wire.complaint import UNREADABLE

log = logging.getLogger("cfmessenger.turnstile")

TIMEOUT_S = 5.0
ATTEMPTS = 2
LONGEST_TOKEN = 2048  # "Token <= 2048 characters" (Cloudflare)
REPLAY_S = 600  # twice as long as Cloudflare lets a token live

# siteverify's error codes (Cloudflare, "Validate the token"). What is not listed counts
# as the visitor's: an unknown refusal is still a refusal.
_OURS = frozenset({"missing-input-secret", "invalid-input-secret", "bad-request"})
_PASSING = frozenset({"internal-error"})


class _Verdict(msgspec.Struct, rename={"error_codes": "error-codes"}):
    success: bool
    error_codes: tuple[str, ...] = ()
    hostname: str | None = None


class _NoAnswer(Exception):
    """No verdict this time; worth one more attempt."""


class Turnstile(Protocol):
    """Whoever can judge a token."""

    async def verify(self, token: str, address: str | None) -> None:
        """Returns for a person. `token` is not empty; `address` is the client's.

        Raises ProtocolError TURNSTILE_FAILED, Unavailable TURNSTILE_UNAVAILABLE.
        """

    async def aclose(self) -> None:
        """Gives back connections."""


def turnstile(
    kv: Valkey,
    secret: str | None,
    *,
    url: str = TURNSTILE_URL,
    hostnames: Sequence[str] = (),
    timeout_s: float = TIMEOUT_S,
    spent: Spent | None = None,
) -> Turnstile:
    """The judge that these settings ask for."""
    if secret is None:
        return Documented("passes")
    if secret in TURNSTILE_TEST_SECRETS:
        return Documented(TURNSTILE_TEST_SECRETS[secret])
    return Siteverify(
        kv, secret, url=url, hostnames=hostnames, timeout_s=timeout_s, spent=spent
    )


class Documented:
    """The outcome documented for a test secret; no call, no replay guard."""

    def __init__(self, outcome: str) -> None:
        self._passes = outcome == "passes"

    async def verify(self, token: str, address: str | None) -> None:
        """See `Turnstile`."""
        if not self._passes:
            raise ProtocolError("TURNSTILE_FAILED")

    async def aclose(self) -> None:
        """See `Turnstile`."""


class Siteverify:
    """Cloudflare's siteverify, or what is compatible with it.

    `hostnames`, when given, are the only sites whose tokens count. A token passes once:
    Cloudflare says so, and a mark of our own in Valkey says it before Cloudflare is
    asked, so that two gateways cannot both be told yes.
    """

    def __init__(
        self,
        kv: Valkey,
        secret: str,
        *,
        url: str,
        hostnames: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
        fresh_key: Callable[[], str] = lambda: str(uuid.uuid4()),
        spent: Spent | None = None,
    ) -> None:
        self._kv = kv
        self._spent = spent or Spent()
        self._secret = secret
        self._url = url
        self._hostnames = frozenset(hostnames)
        self._timeout_s = timeout_s
        self._fresh_key = fresh_key
        self._http = httpx2.AsyncClient(timeout=timeout_s, follow_redirects=False)

    async def verify(self, token: str, address: str | None) -> None:
        """See `Turnstile`."""
        mark = keys.turnstile(token_hash(token))
        fresh = await self._kv.ask("SET", mark, "1", "EX", REPLAY_S, "NX")
        if not fresh or self._spent.used(mark):
            raise ProtocolError("TURNSTILE_FAILED")
        self._spent.use(mark)
        try:
            verdict = await self._ask(token, address)
        except BaseException:
            # Nobody judged it: the visitor may try again with the same token.
            self._spent.forgive(mark)
            await self._kv.ask("DEL", mark)
            raise
        if not verdict.success:
            log.info("turnstile refused a token: %s", " ".join(verdict.error_codes))
            raise ProtocolError("TURNSTILE_FAILED")
        if self._hostnames and (verdict.hostname or "").lower() not in self._hostnames:
            log.warning("turnstile token of another site: %.255r", verdict.hostname)
            raise ProtocolError("TURNSTILE_FAILED")

    async def aclose(self) -> None:
        """See `Turnstile`."""
        await self._http.aclose()

    async def _ask(self, token: str, address: str | None) -> _Verdict:
        form = {
            "secret": self._secret,
            "response": token,
            "idempotency_key": self._fresh_key(),
        }
        if address is not None:
            form["remoteip"] = address
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._call(form)
            except _NoAnswer as why:
                log.warning("siteverify, attempt %d of %d: %s", attempt, ATTEMPTS, why)
        raise Unavailable("TURNSTILE_UNAVAILABLE")

    async def _call(self, form: dict[str, str]) -> _Verdict:
        try:
            # The client's own timeouts are per read; this one is for the whole call.
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.post(self._url, data=form)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            raise _NoAnswer(type(error).__name__) from None
        try:
            verdict = msgspec.json.decode(response.content, type=_Verdict)
        except UNREADABLE:
            # Cloudflare's refusals are JSON too, whatever their status.
            raise _NoAnswer(f"status {response.status_code}, no verdict") from None
        if verdict.success and response.status_code != 200:
            raise _NoAnswer(f"status {response.status_code} with a success")
        codes = frozenset(verdict.error_codes)
        if not verdict.success and codes & _OURS:
            log.error("siteverify refuses our request: %s", " ".join(sorted(codes)))
            raise Unavailable("TURNSTILE_UNAVAILABLE")
        if not verdict.success and (codes & _PASSING or response.status_code >= 500):
            raise _NoAnswer(f"status {response.status_code} {' '.join(sorted(codes))}")
        return verdict
