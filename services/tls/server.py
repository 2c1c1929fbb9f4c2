"""A server's certificate, read again when its files change: a renewed one needs no restart.

files changed ──▶ the next handshake reads them ──▶ valid: used from now on; otherwise the old one stays
"""

from collections.abc import Sequence
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from prometheus_client import Gauge

from services.logs import Logger

# Its series exists only in a server with TLS.
_EXPIRES = Gauge("crease_certificate_expires_timestamp_seconds", "When the server's certificate expires", ["file"])
Versions = tuple[int, ...]


class ServerCertificate:
    """`client_ca`: the authority of client certificates, which are then required."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None, log: Logger) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._log = log
        self._versions = self._read_versions()
        # Raises OSError or ValueError: a server does not start with a wrong certificate.
        self._current = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials for a port; they follow the files."""
        return grpc.dynamic_ssl_server_credentials(
            self._current, self._read_if_changed, require_client_authentication=self._client_ca is not None
        )

    def _read_if_changed(self) -> grpc.ServerCertificateConfiguration:
        """Called before each handshake, on a thread of gRPC."""
        try:
            versions = self._read_versions()
            if versions != self._versions:
                self._versions = versions
                self._current = self._read()
                self._log.info("certificate_read", file=str(self._certificate))
        except (OSError, ValueError) as error:
            self._log.error("certificate_not_read", file=str(self._certificate), error=str(error))
        return self._current

    def _read_versions(self) -> Versions:
        files: Sequence[Path] = [file for file in (self._certificate, self._key, self._client_ca) if file]
        return tuple(file.stat().st_mtime_ns for file in files)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key = self._certificate.read_bytes(), self._key.read_bytes()
        parsed = x509.load_pem_x509_certificate(certificate)
        if load_pem_private_key(key, None).public_key() != parsed.public_key():
            raise ValueError(f"{self._key} is not the key of {self._certificate}")
        client_ca = self._client_ca.read_bytes() if self._client_ca else None
        _EXPIRES.labels(str(self._certificate)).set(parsed.not_valid_after_utc.timestamp())
        return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)
