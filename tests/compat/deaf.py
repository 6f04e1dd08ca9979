"""An engine that refuses everything: a row that agrees with it cannot fail, so it compares nothing."""

import contextlib
import os
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.compat.engines import Engine

_BODY = b'{"message":"what?"}'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __getattr__(self, name: str) -> Any:
        """Answer every method alike."""
        if name.startswith("do_"):
            return self._refuse
        raise AttributeError(name)

    def _refuse(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        if not self.path.endswith("/_ping"):  # the docker command asks that before it refuses something by itself
            server.asked += 1
        self.close_connection = True  # the body was not read
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_BODY)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(_BODY)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """Name no address: a client at a Unix socket has none."""
        return ""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    asked = 0

    def handle_error(self, *_args: object) -> None:
        """Say nothing of a client that went away."""


class Deaf(Engine):
    """The engine that refuses, with the surface that rows use.

    Attributes:
        deaf: what rows make before is not made here.
    """

    deaf = True

    def __init__(self, server: _Server, path: str, directory: Path, like: Engine) -> None:
        self._server = server
        self.socket, self.directory, self.image = path, directory, ""
        self.version, self.api = like.version, like.api
        self.env = {**like.env, "DOCKER_HOST": f"unix://{path}", "DIR": str(directory), "DOCKER_CONFIG": str(directory)}

    @property
    def asked(self) -> int:
        """How many requests it has had, but for pings."""
        return self._server.asked

    def shell(self, line: str, seconds: float = 10) -> tuple[int, bytes, bytes]:
        """Run a line of bash against it; what waits for an answer that never comes has not agreed."""
        return super().shell(line, min(seconds, 10))

    def tidy(self) -> None:
        """Leave it: nothing was made."""


@contextlib.contextmanager
def deaf(base: Path, like: Engine) -> Iterator[Deaf]:
    """Run one below `base`, with the environment of another engine."""
    path = str(base / "deaf.sock")
    directory = base / "deaf-dir"
    directory.mkdir()
    busybox = like.directory / "busybox.tar"
    if busybox.exists():
        os.symlink(busybox, directory / "busybox.tar")
    with _Server(path, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Deaf(server, path, directory, like)
        finally:
            server.shutdown()
            thread.join()
