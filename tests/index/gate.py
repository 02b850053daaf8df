"""A reverse proxy in front of the real node, as shops have them: TLS, a path of its own, and who may pass."""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.index.proxy import Relaying


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass
class Gate:
    """open: false drops every connection without an answer, as a host that dies does."""

    url: str
    open: bool = True
    asked: list[Asked] = field(default_factory=list)

    @property
    def authorizations(self) -> set[str | None]:
        return {asked.headers["Authorization"] for asked in self.asked}


@contextmanager
def gate(
    node: str,
    prefix: str = "",
    admits: Callable[[Asked], bool] = lambda asked: True,
    pki: Path | None = None,
    mutual: bool = False,
) -> Iterator[Gate]:
    """Yields the proxy of `node`, which answers below `prefix` alone: 401 to what `admits` refuses.

    pki: of `tests.pki.make`, for TLS; mutual: clients must have a certificate of it.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    made = Gate(f"{'https' if pki else 'http'}://127.0.0.1:{server.server_port}{prefix}")

    class Proxy(Relaying):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            if pki:
                try:
                    self.request.do_handshake()
                except ssl.SSLError:
                    time.sleep(1)  # closed before the client has read why, the connection would be reset
                    raise

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = Asked(self.command, self.path, self.headers, body)
            if not made.open:
                self.close_connection = True
                return None
            made.asked.append(asked)
            if not self.path.startswith(f"{prefix}/"):
                return self.answer(404, b'{"error":"no such path at the proxy"}')
            if not admits(asked):
                return self.answer(401, b'{"error":"not you: %s"}' % str(self.headers["Authorization"]).encode())
            headers = {"Content-Type": self.headers["Content-Type"]}
            target = node + self.path.removeprefix(prefix)
            return self.pass_on(target, body, headers)

    server.RequestHandlerClass = Proxy
    if pki:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "server.pem", pki / "server.key")
        if mutual:
            context.load_verify_locations(pki / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        # The handshake is for the request's own thread: the one that accepts must not wait for a client.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that goes away is no news
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
