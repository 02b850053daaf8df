"""TLS of the server: certificates that are reloaded when their files change, and client certificates (mutual TLS)."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path

import grpc

from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)


def credentials(section: ServerSection) -> grpc.ServerCredentials | None:
    """None for plaintext. Raises UserError for files that are missing, unreadable or do not belong together."""
    cert, key, client_ca = section.tls_cert, section.tls_key, section.tls_client_ca
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        setting = "server.tls_cert" if cert else "server.tls_key" if key else "server.tls_client_ca"
        raise UserError(
            f"{setting} is set, but server.tls_cert and server.tls_key belong together: give both or neither"
        )
    certificates = Certificates(cert, key, client_ca)
    return grpc.dynamic_ssl_server_credentials(
        certificates.read(), certificates.read_if_changed, require_client_authentication=client_ca is not None
    )


class Certificates:
    """PEM files: the server's chain and key, and the authorities that client certificates must come from, if any."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert = cert
        self._key = key
        self._client_ca = client_ca
        self._lock = threading.Lock()  # gRPC calls on its own threads, at each new connection
        self._seen = self._state()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Raises UserError, with the reason of OpenSSL, for files that gRPC could not use."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # gRPC reads no encrypted keys, and OpenSSL must not prompt for a password on a terminal.
            context.load_cert_chain(self._cert, self._key, password=lambda: b"")
            if self._client_ca:
                context.load_verify_locations(self._client_ca)
            pair = (self._key.read_bytes(), self._cert.read_bytes())
            authorities = self._client_ca.read_bytes() if self._client_ca else None
        except OSError as error:  # SSLError is one
            files = f"server.tls_cert {self._cert}, server.tls_key {self._key}"
            if self._client_ca:
                files += f" or server.tls_client_ca {self._client_ca}"
            raise UserError(f"{files} cannot be read: {error}; give PEM files that belong together") from None
        return grpc.ssl_server_certificate_configuration([pair], authorities)

    def read_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates, where a file has changed and they can be used; None to keep the old ones."""
        with self._lock:
            state = self._state()
            if state == self._seen:
                return None
            self._seen = state
        try:
            configuration = self.read()
        except UserError as error:
            event(log, logging.ERROR, "certificate refused", None, reason=str(error), remedy="the old one stays in use")
            return None
        event(log, logging.INFO, "certificate replaced", cert=self._cert)
        return configuration

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Changes with any of the files; None for one that is not there."""
        return tuple(_stamp(path) for path in (self._cert, self._key, self._client_ca) if path)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
