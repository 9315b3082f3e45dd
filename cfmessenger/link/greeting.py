"""How two ends of a connection find out who the other is, and which version they speak.

Both know a key; from version 6 on neither says it. Each shows an HMAC-SHA256 of it over
all that was offered, the bytes of chance that both have chosen, and the part that it
plays, so that no proof serves twice, nor for the other part, nor for other versions. It
takes one round trip, as before. An end of the release before sends its key in its first
frame, which is taken, and given, only where no TLS is configured.

Pure: whoever calls brings the bytes of chance. What is not accepted is a `Refusal`.
"""

from __future__ import annotations

import hmac
from typing import NamedTuple

import msgspec

from cfmessenger.link import messages as link

VERSION, OLDEST = link.VERSION, link.VERSION - 1
"""What is spoken here: this release's, and that of the one before."""

PROVES = 6
"""The first version in which keys are proved."""

NONCE_BYTES = 32
"""Of chance, from each end."""

GATEWAY, ACTOR = "gateway", "actor"
CALLER, SERVER = "namespace caller", "namespace server"


MOST_WORDS = 300
"""Characters of a reason that are kept and told."""


class Refusal(Exception):
    """This end will not speak with the other; the text says why and holds no key.

    `kind` is the same for all that are refused for one reason, whatever they said.
    What the other end gives as its reason has proved nothing, so it is cut.
    """

    def __init__(self, why: str, kind: str = "") -> None:
        why = why[:MOST_WORDS]
        super().__init__(why)
        self.kind = kind or why


class Versions(NamedTuple):
    """What one end speaks, from the oldest to the newest."""

    oldest: int
    newest: int

    def __str__(self) -> str:
        if self.oldest == self.newest:
            return f"version {self.newest}"
        return f"versions {self.oldest} to {self.newest}"


OURS = Versions(OLDEST, VERSION)


def common(theirs: Versions, ours: Versions = OURS) -> int:
    """The newest version that both speak. Raises `Refusal`, which names all."""
    found = min(theirs.newest, ours.newest)
    if found < max(theirs.oldest, ours.oldest):
        raise Refusal(f"it speaks {theirs} of the link, this end {ours}", "versions")
    return found


class Said(NamedTuple):
    """What both ends have heard when either proves its key."""

    offered: Versions
    version: int
    caller: str
    nonces: tuple[bytes, bytes]


def proof(key: str, part: str, said: Said) -> bytes:
    """That who plays this part knows the key."""
    text = msgspec.msgpack.encode((part, *said))
    return hmac.digest(key.encode(), text, "sha256")


def check(shown: bytes, key: str, part: str, said: Said) -> None:
    """In constant time. Raises `Refusal`."""
    if not hmac.compare_digest(shown, proof(key, part, said)):
        raise Refusal("it does not know the key")


class Asking:
    """The gateway's end of a link's greeting: `hello`, then `welcomed`.

    `speaks`: the newest version that the actor is known to speak. `secure`: the link
    speaks TLS, so all that is asked of is of this release and nobody is sent a key.
    """

    def __init__(
        self, key: str, gateway: str, nonce: bytes, speaks: int, secure: bool
    ) -> None:
        self._key = key
        self._gateway = gateway
        self._nonce = nonce
        self.proves = speaks >= PROVES
        if secure and not self.proves:
            raise Refusal("it is of a release that proves no key; TLS asks for it")

    @property
    def hello(self) -> link.Hello:
        """The first frame. Raises `Refusal`."""
        if not self.proves:
            return link.Hello(PROVES - 1, self._key, self._gateway)
        return link.Hello(VERSION, "", self._gateway, OLDEST, self._nonce)

    def welcomed(self, welcome: link.Welcome) -> link.Proof | None:
        """What is to be sent before anything else. Raises `Refusal`."""
        if not self.proves:
            return None
        # It chose; that we offered it is in what both prove.
        common(Versions(welcome.version, welcome.version))
        if welcome.version < PROVES or len(welcome.nonce) != NONCE_BYTES:
            raise Refusal("it proves no key")
        nonces = (self._nonce, welcome.nonce)
        said = Said(OURS, welcome.version, self._gateway, nonces)
        check(welcome.proof, self._key, ACTOR, said)
        return link.Proof(proof(self._key, GATEWAY, said))


class Answering:
    """The actor's end: `on_hello`, then `on_proof` if that is still owed."""

    def __init__(self, key: str, nonce: bytes, pid: int, secure: bool) -> None:
        self.gateway = ""  # whom it greets, from an accepted hello or proof on
        self.version = 0  # which both speak: likewise
        self._key = key
        self._nonce = nonce
        self._pid = pid
        self._secure = secure
        self._said: Said | None = None  # from a hello that owes a proof until that

    def on_hello(self, hello: link.Hello) -> link.Welcome:
        """The answer. Raises `Refusal`."""
        if self.gateway or self._said is not None:
            raise Refusal("it says hello twice")
        if not hello.gateway:
            raise Refusal("it has no name")
        offered = Versions(hello.oldest or hello.version, hello.version)
        if not 0 < offered.oldest <= offered.newest < 2**16:
            raise Refusal("it speaks no versions")
        version = common(offered)
        if version < PROVES:
            return self._sent(hello, version)
        if len(hello.nonce) != NONCE_BYTES:
            raise Refusal("it proves no key")
        nonces = (hello.nonce, self._nonce)
        self._said = said = Said(offered, version, hello.gateway, nonces)
        shown = proof(self._key, ACTOR, said)
        return link.Welcome(version, self._pid, self._nonce, shown)

    def _sent(self, hello: link.Hello, version: int) -> link.Welcome:
        if self._secure:
            raise Refusal("it sends its key, and TLS is configured")
        if not hmac.compare_digest(hello.key.encode(), self._key.encode()):
            raise Refusal("it does not know the key")
        self.gateway, self.version = hello.gateway, version
        return link.Welcome(version, self._pid)

    def on_proof(self, shown: link.Proof) -> None:
        """Raises `Refusal`."""
        said, self._said = self._said, None
        if said is None:
            raise Refusal("it owes no proof")
        check(shown.proof, self._key, GATEWAY, said)
        self.gateway, self.version = said.caller, said.version
