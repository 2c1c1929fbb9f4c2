"""The certificate of every server, and the file of authorities that every program trusts."""

import itertools
import tempfile
from pathlib import Path

from crease_client.authorities import AUTHORITIES
from testing.servers import certificates

# In every certificate; the names before it tell the authorities apart.
HOST = "localhost"


class Certificate:
    """Files that are replaced as Kubernetes does it: a program never reads half of one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._certificate, self._key = folder / "tls.crt", folder / "tls.key"
        self.authorities = folder / "ca.crt"
        self._numbers = itertools.count()
        self.renew()

    @property
    def env(self) -> dict[str, str]:
        """The settings of a server that is a client of others, too."""
        server = {"CREASE_TLS_CERTIFICATE": str(self._certificate), "CREASE_TLS_KEY": str(self._key)}
        return server | self.trusted

    @property
    def trusted(self) -> dict[str, str]:
        """The setting of a client."""
        return {AUTHORITIES: str(self.authorities)}

    def renew(self) -> None:
        """Makes a certificate of a new authority, which is trusted beside the old one before it is used."""
        old = self._certificate.read_bytes() if self._certificate.exists() else b""
        with tempfile.TemporaryDirectory() as folder:
            made, key = certificates.make(Path(folder), f"{next(self._numbers)}.example", HOST)
            _replace(self.authorities, made.read_bytes() + old)
            _replace(self._key, key.read_bytes())
            _replace(self._certificate, made.read_bytes())


def _replace(file: Path, content: bytes) -> None:
    draft = file.with_suffix(".next")
    draft.write_bytes(content)
    draft.rename(file)
