"""A ground on which machines speak TLS, and whoever listens on its bridge.

Certificates are files in each machine's /tmp; stunnel speaks TLS in front of Valkey,
since the one in the wheel cannot. The balancer and the gateways' port are the edge,
where TLS is somebody else's: what is heard there is proof that the listener hears.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cfmessenger.addresses import with_parameters
from cfmessenger.cli.local_ray import token_env
from cfmessenger.cli.running import namespace_key
from cfmessenger.link.namespace import Address
from cfmessenger.storage.members import Members
from cfmessenger.storage.valkey import Valkey
from cfmessenger.tls import Files
from tests.authority import Authority
from tests.system.machines import balancer, faults
from tests.system.machines.ground import Ground, ground
from tests.system.machines.load import planned, play
from tests.system.machines.machine import Machine
from tests.system.machines.network import Network
from tests.system.machines.storage import PASSWORD, PORT, USER, Storage
from tests.system.machines.topology import KEPT, Topology

TLS = "/tmp/tls"
TLS_PORT = 6380
LINK_PORTS = (7000, 7099)
MISSING = [each for each in ("openssl", "stunnel4") if shutil.which(each) is None]

FILES = {
    "CFM_TLS_CA": f"{TLS}/ca.pem",
    "CFM_TLS_CERT": f"{TLS}/machine.pem",
    "CFM_TLS_KEY": f"{TLS}/machine.key",
    "CFM_VALKEY_CA": f"{TLS}/ca.pem",
    "CFM_VALKEY_CERT": f"{TLS}/machine.pem",
    "CFM_VALKEY_KEY": f"{TLS}/machine.key",
    "CFM_LINK_PORTS": "{}-{}".format(*LINK_PORTS),
}


class Secured(Topology):
    """Roles with certificates; passwords stand in files."""

    def __init__(self, storage: Storage, edge: str) -> None:
        super().__init__(storage, edge)
        self._env |= FILES
        at = f"{storage.machine.address}:{TLS_PORT}"
        self.secrets = {
            "CFM_VALKEY_URL": f"valkeys://{USER}:{PASSWORD}@{at}",
            "CFM_RAY_STORE_URL": f"valkeys://ray:{PASSWORD}@{at}",
            "CFM_DATABASE_URL": storage.database_url,
        }
        for name in self.secrets:
            self._env.pop(name, None)
            self._env[f"{name}_FILE"] = f"{TLS}/{name}"


class SecuredGround(Ground):
    """`certify` gives all machines new certificates, in the same files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._authorities = folder / "authority"
        self._authorities.mkdir()
        self.authority = Authority(self._authorities)
        self.authority.sign("host")

    def planned(self) -> Topology:
        return Secured(self.storage, self.balancer.url)

    @property
    def valkey_url(self) -> str:
        files = self.tls
        at = f"{self.storage.machine.address}:{TLS_PORT}"
        return with_parameters(
            f"valkeys://{USER}:{PASSWORD}@{at}",
            ssl_ca_certs=str(files.ca),
            ssl_certfile=str(files.cert),
            ssl_keyfile=str(files.key),
        )

    @property
    def tls(self) -> Files:
        return self.authority.files("host")

    async def dress(self, machine: Machine) -> None:
        machine.path(TLS).mkdir(mode=0o700)
        self.certify(machine)
        if machine is not self.storage.machine:
            assert isinstance(self.topology, Secured)
            for name, value in self.topology.secrets.items():
                machine.path(f"{TLS}/{name}").write_text(value)
            return
        lines = [
            "foreground = yes",
            "pid =",
            "[valkey]",
            f"accept = 0.0.0.0:{TLS_PORT}",
        ]
        lines += [f"connect = 127.0.0.1:{PORT}", "verifyChain = yes"]
        lines += ["requireCert = yes", f"CAfile = {TLS}/ca.pem"]
        lines += [f"cert = {TLS}/machine.pem", f"key = {TLS}/machine.key"]
        config = machine.path(f"{TLS}/stunnel.conf")
        config.write_text("".join(f"{line}\n" for line in lines))
        made = machine.start("stunnel", ["stunnel4", f"{TLS}/stunnel.conf"], os.environ)
        await made.ready("Configuration successful")

    def certify(self, *machines: Machine) -> None:
        """Sign a certificate for each, which replaces what it had."""
        for machine in machines:
            addresses = (machine.address, "127.0.0.1", "127.0.0.2")
            names = ",".join(f"IP:{each}" for each in addresses)
            files = self.authority.sign("machine", names)
            assert files.key is not None
            # Each file at once, and the pair as good as that: what is read in between
            # does not fit together, and is not used.
            for file in (files.ca, files.cert, files.key):
                draft = machine.path(f"{TLS}/draft")
                draft.write_bytes(file.read_bytes())
                draft.rename(machine.path(f"{TLS}/{file.name}"))

    async def needles(self, links: Iterable[Address]) -> dict[str, bytes]:
        """What nobody may hear, by what it is; the keys of these links, too."""
        kv = Valkey(self.valkey_url)
        try:
            secret = await Members(kv).secret()
        finally:
            kv.close()
        token = token_env(secret)["RAY_AUTH_TOKEN"]
        keys = {at.key for at in links}
        told = {f"the key of a link {n}": key for n, key in enumerate(sorted(keys))}
        told |= {
            "the cluster's secret": secret,
            "the key of the namespace": namespace_key(secret),
            "Ray's token": token,
            "Valkey's password": PASSWORD,
        }
        return {what: each.encode() for what, each in told.items()}


SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 263, 6, 33
"""Of Linux; Python has no names for them."""


class Heard(NamedTuple):
    """What a listener found: by needle, on which ports; and of the edge alone."""

    inside: dict[bytes, set[tuple[int, int]]]
    edge: set[bytes]
    bytes: int
    missed: int


class Listener:
    """Everything that passes the lines of these machines, looked through as it comes.

    A needle that two segments share is found, if they come one after the other.
    """

    def __init__(self, network: Network, numbers: Iterable[int]) -> None:
        self._sockets = []
        for number in numbers:
            each = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            each.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 * 2**20)
            each.bind((network.line(number), 0))
            each.settimeout(0.2)
            self._sockets.append(each)
        self._kept: list[bytes] = []  # all of it, until `end`: keys are known late
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._listen, args=(each,), daemon=True)
            for each in self._sockets
        ]

    def begin(self) -> None:
        for each in self._threads:
            each.start()

    def _listen(self, line: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                self._kept.append(line.recv(70_000))
            except TimeoutError:
                continue

    def end(self, needles: Iterable[bytes]) -> Heard:
        """Stop, and look for these."""
        self._ended.set()
        missed = 0
        for thread, line in zip(self._threads, self._sockets, strict=True):
            thread.join()
            # struct tpacket_stats: packets, drops.
            told = line.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
            missed += struct.unpack("II", told)[1]
            line.close()
        inside: dict[bytes, set[tuple[int, int]]] = {}
        edge: set[bytes] = set()
        flows: dict[tuple[bytes, int, int], bytes] = {}
        total = 0
        for packet in self._kept:
            total += len(packet)
            for flow, payload in _tcp(packet):
                text = flows.get(flow, b"") + payload
                flows[flow] = text[-256:]
                for needle in needles:
                    if needle not in text:
                        continue
                    if balancer.PORT in flow[1:]:
                        edge.add(needle)
                    else:
                        inside.setdefault(needle, set()).add(flow[1:])
        return Heard(inside, edge, total, missed)


def _tcp(packet: bytes) -> Iterator[tuple[tuple[bytes, int, int], bytes]]:
    """The TCP segment in an Ethernet frame with IPv4, if it is one."""
    if packet[12:14] != b"\x08\x00" or packet[23] != 6:
        return
    head = 14 + 4 * (packet[14] & 15)
    end = 14 + int.from_bytes(packet[16:18], "big") or len(packet)
    source, target = struct.unpack("!HH", packet[head : head + 4])
    start = head + 4 * (packet[head + 12] >> 4)
    yield (packet[26:34], source, target), packet[start:end]


@contextmanager
def listening(ground: Ground) -> Iterator[Listener]:
    """From here on, to all that goes to or comes from a machine of this ground."""
    machines = (*ground.nodes, ground.head, ground.storage.machine)
    made = Listener(ground.network, [each.number for each in machines])
    made.begin()
    yield made


def ray_words(machine: Machine) -> bytes:
    """All that Ray has written into the store on this machine: of Valkey's append-only
    file the commands on Ray's own keys."""
    found = []
    for file in sorted(machine.path("/tmp/valkey").rglob("*.aof")):
        raw = file.read_bytes()
        at = 0
        while (start := raw.find(b"*", at)) >= 0:
            at, words = _command(raw, start)
            if len(words) > 1 and words[1].startswith(b"RAY"):
                found += words
    return b"\0".join(found)


def _command(raw: bytes, at: int) -> tuple[int, list[bytes]]:
    """One command of RESP that begins here, and where it ends."""
    line = raw.index(b"\r\n", at)
    words = []
    count, at = int(raw[at + 1 : line]), line + 2
    for _ in range(count):
        line = raw.index(b"\r\n", at)
        size = int(raw[at + 1 : line])
        words.append(raw[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
    return at, words


async def trusted() -> str:
    """Nobody on the bridge hears, and Ray keeps, what is nobody's business; all
    certificates are renewed under load."""
    async with ground(kind=SecuredGround) as on:
        with listening(on) as listener:
            plan = planned(on.balancer.url, 10)
            rooms = [plan.room_name(n) for n in range(plan.rooms)]

            async def renew() -> None:
                on.certify(on.head, *on.nodes, on.storage.machine)
                on.choose(await on.spots(rooms))
                # New links, with the new certificates: its rooms go elsewhere.
                await faults.term(on.victim.started["node"])
                await on.start(on.victim, "node")

            tokens = await on.tokens()
            figures = await play(plan, tokens, renew)
            links = (await on.addresses(f"room:{room}" for room in rooms)).values()
            needles = await on.needles(links)
            needles |= {f"a session {n}": t.encode() for n, t in enumerate(tokens)}
            needles["text that people wrote"] = b'"content"'
            heard = listener.end(needles.values())
        assert heard.edge >= {b'"content"'}, "it hears nothing at all"
        found = {what for what, each in needles.items() if each in heard.inside}
        assert not found, (found, heard.inside)
        assert not heard.missed, "packets were not looked at"
        verdict = figures.judged(await on.logs(rooms))
        assert not any(verdict._replace(unseen=0)), verdict
        assert not sum(figures.closed.values()), figures.closed
        assert {LINK_PORTS[0] <= at.port <= LINK_PORTS[1] for at in links} == {True}
        kept = ray_words(on.storage.machine)
        assert b"rooms:0" in kept, "it is not what Ray keeps"
        said = {f"Ray's store: {what}" for what, n in needles.items() if n in kept}
        for machine in (on.head, *on.nodes):
            for where, text in said_in(machine).items():
                said |= {f"{where}: {what}" for what, n in needles.items() if n in text}
        assert not said, said
        acked = figures.result.counts["acked"]
    return (
        f"{heard.bytes >> 20} MiB between machines, of {len(needles)} secrets none "
        "heard; "
        f"{acked} acknowledged, certificates renewed, 0 sockets closed"
    )


def said_in(machine: Machine) -> dict[str, bytes]:
    """What its processes are called with, and all that its logs say, by where it is."""
    name = machine.name
    found = {
        f"{name} {row.pid}": line.encode() for row, line in machine.processes().items()
    }
    for started in machine.started.values():
        found[f"{name} {started.log.name}"] = started.log.read_bytes()
    for pattern in KEPT:
        for folder in machine.path("/tmp").glob(pattern):
            for file in folder.rglob("*"):
                if file.is_file():
                    found[f"{name} {file.name}"] = file.read_bytes()
    return found
