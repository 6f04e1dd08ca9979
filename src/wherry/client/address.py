"""Which engine: `-H`, then `WHERRY_HOST`, then `DOCKER_HOST`, then the default socket."""

import os

from wherry.errors import InvalidArgument
from wherry.paths import DEFAULT_SOCKET


class Address:
    """Where an engine listens.

    Attributes:
        text: as a person writes it (`unix:///run/wherry/wherry.sock`, `tcp://host:2375`).
        path: socket path, or "" for TCP.
        host, port: TCP endpoint, or "" and 0.
        chosen: whether someone chose it; the default socket was not chosen.
    """

    __slots__ = ("chosen", "host", "path", "port", "text")

    def __init__(self, text: str, *, path: str = "", host: str = "", port: int = 0, chosen: bool = True) -> None:
        self.text = text
        self.path = path
        self.host = host
        self.port = port
        self.chosen = chosen


def parse(text: str) -> Address:
    """Read a host as Docker writes it. Raises `InvalidArgument` for schemes that are not spoken here."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = ("unix", text) if text.startswith("/") else ("tcp", text)
    if scheme == "unix" and rest:
        return Address(f"unix://{rest}", path=rest, chosen=rest != DEFAULT_SOCKET)
    if scheme in ("tcp", "http") and rest:
        rest = rest.rstrip("/")
        host, _, port = rest.rpartition(":")
        if not host and not rest.startswith(":"):
            host, port = rest, "2375"
        if port.isdigit() and int(port) < 65536 and "/" not in rest:
            return Address(f"tcp://{rest}", host=host.strip("[]") or "localhost", port=int(port))
    raise InvalidArgument(
        f"Failed to initialize: unable to resolve wherry endpoint: invalid bind address format: {text}"
    )


def choose(flag: str | None = None) -> Address:
    """The engine that this invocation talks to; `flag` is the value of `-H`."""
    for text in (flag, os.environ.get("WHERRY_HOST"), os.environ.get("DOCKER_HOST")):
        if text:
            return parse(text)
    return Address(f"unix://{DEFAULT_SOCKET}", path=DEFAULT_SOCKET, chosen=False)
