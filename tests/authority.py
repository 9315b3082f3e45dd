"""Certificates for tests: private authorities, and what they sign."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from cfmessenger.tls import Files

MISSING = "" if shutil.which("openssl") else "not installed: openssl"


class Authority:
    """One whose certificate is `<name>.pem` in a folder, beside those that it signs.

    Made again under the same name it is another one.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.pem = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        ca = ("-addext", "basicConstraints=critical,CA:TRUE")
        _run("req", "-x509", *_KEY, *self._written(name), "-days", "2", *ca)

    def sign(
        self,
        name: str,
        alternative: str = "DNS:machine",
        *,
        days: int = 2,
        purpose: str = "serverAuth,clientAuth",
    ) -> Files:
        """Make `<name>.pem` and `<name>.key`; in negative days it has ended. What a
        machine with these has, and this authority."""
        request, more = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        _run("req", *_KEY, *self._written(name, request))
        more.write_text(f"subjectAltName={alternative}\nextendedKeyUsage={purpose}\n")
        draft = self.folder / f"{name}.draft"
        _run(
            *("x509", "-req", "-in", str(request), "-extfile", str(more)),
            *("-CA", str(self.pem), "-CAkey", str(self._key), "-CAcreateserial"),
            *("-days", str(days), "-out", str(draft)),
        )
        draft.replace(self.folder / f"{name}.pem")
        return self.files(name)

    def files(self, name: str, authority: Path | None = None) -> Files:
        """Of what was signed under this name; who has it trusts this authority."""
        cert = self.folder / f"{name}.pem"
        return Files(authority or self.pem, cert, self.folder / f"{name}.key")

    def _written(self, name: str, out: Path | None = None) -> tuple[str, ...]:
        out = out or self.folder / f"{name}.pem"
        key = self.folder / f"{name}.key"
        return ("-keyout", str(key), "-out", str(out), "-subj", f"/CN={name}")


_KEY = ("-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def _run(*command: str) -> None:
    subprocess.run(["openssl", *command], check=True, capture_output=True)
