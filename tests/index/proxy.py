"""What proxies before the real node share: passing a request on, and answering."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler


class Relaying(BaseHTTPRequestHandler):
    """Every method goes to `relay`."""

    def relay(self) -> None:
        raise NotImplementedError

    def pass_on(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        request = urllib.request.Request(url, body or None, dict(headers), method=self.command)
        try:
            with urllib.request.urlopen(request) as response:
                self.answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.relay()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *args: object) -> None:
        pass
