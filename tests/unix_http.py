"""HTTP over an engine's socket, for requests that no client makes as a test wants them."""

import http.client
import socket


class UnixConnection(http.client.HTTPConnection):
    """A connection to a socket file.

    Args:
        path: the file.
        seconds: how long each step may take.
        host: what the requests call the engine.
    """

    def __init__(self, path: str, seconds: float, host: str = "d") -> None:
        super().__init__(host, timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
