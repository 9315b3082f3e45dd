"""Storage over TLS: a private authority, certificates of ours, names that are checked.

stunnel speaks TLS in front of a real server, since the one in the wheel cannot.
"""

import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cfmessenger.cli import world
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings
from cfmessenger.storage.valkey import Valkey
from tests.gateway.node import eventually
from tests.replicated import Replicated, free_port

pytestmark = pytest.mark.skipif(
    not (shutil.which("stunnel4") and shutil.which("openssl")),
    reason="needs stunnel4 and openssl",
)

SECRET = "own"  # the server's password for us
CAUSES = (ssl.SSLError, ConnectionError, Unavailable)


class Authority:
    """A private one, its own certificate in `ca.pem` of the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made("ca", "-addext", "basicConstraints=critical,CA:TRUE")

    def sign(self, name: str, alternative: str) -> None:
        """Make `<name>.pem` and `<name>.key`."""
        own = ("-CA", f"{self.folder}/ca.pem", "-CAkey", f"{self.folder}/ca.key")
        self._made(name, *own, "-addext", f"subjectAltName={alternative}")

    def _made(self, name: str, *more: str) -> None:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        files = (f"{self.folder}/{name}.key", f"{self.folder}/{name}.pem")
        command = ("openssl", "req", "-x509", "-nodes", "-days", "2", *curve)
        names = ("-keyout", files[0], "-out", files[1], "-subj", f"/CN={name}")
        subprocess.run([*command, *names, *more], check=True, capture_output=True)


@contextmanager
def stunnel(folder: Path, *tunnels: tuple[int, int]) -> Iterator[None]:
    """TLS from each port to another, for who has a certificate of the authority in the
    folder."""
    lines = ["foreground = yes", "pid ="]
    for port, target in tunnels:
        lines += (f"[valkey-{port}]", f"accept = 127.0.0.1:{port}")
        lines += (f"connect = 127.0.0.1:{target}", f"cert = {folder}/server.pem")
        lines += (f"key = {folder}/server.key", f"CAfile = {folder}/ca.pem")
        lines += ("verifyChain = yes", "requireCert = yes")
    config = folder / "stunnel.conf"
    config.write_text("".join(f"{line}\n" for line in lines))
    with (folder / "stunnel.out").open("ab") as out:
        process = subprocess.Popen(["stunnel4", str(config)], stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


class Scene:
    """A server behind TLS; `files` are what an operator gives us."""

    def __init__(self, folder: Path, server: Replicated) -> None:
        self.folder = folder
        self.server = server
        self.port = free_port()

    def env(self, host: str = "localhost", **more: str) -> dict[str, str]:
        """What is set, unless `more` says it is not."""
        files = {
            "CFM_VALKEY_CA": f"{self.folder}/ca.pem",
            "CFM_VALKEY_CERT": f"{self.folder}/client.pem",
            "CFM_VALKEY_KEY": f"{self.folder}/client.key",
        }
        url = f"valkeys://cfm:{SECRET}@{host}:{self.port}"
        return {"CFM_VALKEY_URL": url} | files | more

    def client(self, host: str = "localhost", **more: str) -> Valkey:
        url = Settings.load(self.env(host, **more)).valkey_url
        assert url is not None
        return Valkey(url)

    def certify(self) -> None:
        """New certificates of a new authority, in the same files."""
        authority = Authority(self.folder)
        authority.sign("server", "DNS:localhost")
        authority.sign("client", "DNS:gateway")

    async def answers(self, client: Valkey) -> None:
        """Once stunnel listens."""

        async def asked() -> bool:
            try:
                return bool(await client.ask("PING") == b"PONG")
            except Unavailable:
                return False

        await eventually(asked, within=10)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="cfm-tls-") as name:
        folder = Path(name)
        server = Replicated(folder / "valkey")
        try:
            await server.start().answers()
            made = Scene(folder, server)
            made.certify()
            yield made
        finally:
            server.kill()


async def refused(client: Valkey) -> BaseException:
    """Why it cannot connect: the innermost cause."""
    with pytest.raises(Unavailable) as caught:
        await client.ask("PING")
    client.close()
    chain = world._chain(caught.value)
    assert SECRET not in " ".join(map(str, chain)).split()
    return chain[-1]


async def test_only_who_is_certified_gets_in_and_only_to_who_is(scene: Scene) -> None:
    with stunnel(scene.folder, (scene.port, scene.server.port)):
        ours = scene.client()
        await scene.answers(ours)
        assert await ours.ask("SET", "cfm:a", "1") == b"OK"
        ours.close()
        # The certificate is for another name.
        why = await refused(scene.client("127.0.0.1"))
        assert isinstance(why, ssl.SSLCertVerificationError)
        # An authority that nobody has named.
        why = await refused(scene.client(CFM_VALKEY_CA=""))
        assert isinstance(why, ssl.SSLCertVerificationError)
        # Without a certificate of ours.
        why = await refused(scene.client(CFM_VALKEY_CERT="", CFM_VALKEY_KEY=""))
        assert isinstance(why, CAUSES)


async def test_files_that_change_count_from_the_next_connection_on(
    scene: Scene,
) -> None:
    with stunnel(scene.folder, (scene.port, scene.server.port)):
        client = scene.client()
        await scene.answers(client)
    scene.certify()
    with stunnel(scene.folder, (scene.port, scene.server.port)):
        await scene.answers(client)
    client.close()


async def test_a_start_says_what_is_wrong_in_one_line(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "PATIENCE_S", 0.0)
    with stunnel(scene.folder, (scene.port, scene.server.port)):
        client = scene.client()
        await scene.answers(client)
        client.close()
        await world.check(Settings.load(scene.env()))
        for env, says in (
            (scene.env(CFM_VALKEY_CA="/nowhere.pem"), "CFM_VALKEY_CA: "),
            (scene.env("127.0.0.1"), "does not speak TLS as we do"),
            (scene.env(CFM_VALKEY_CA=""), "does not speak TLS as we do"),
        ):
            with pytest.raises(world.Absent) as caught:
                await world.check(Settings.load(env))
            assert says in str(caught.value)
            assert "\n" not in str(caught.value)
