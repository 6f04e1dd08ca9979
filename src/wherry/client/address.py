"""Which engine: `-H`, then `WHERRY_HOST`, then `DOCKER_HOST`, then the default socket."""

import os

from wherry.errors import InvalidArgument
from wherry.paths import DEFAULT_SOCKET


class Address:
    """Where an engine listens.

    Attributes:
        text: as a person writes it (`unix:///run/wherry/wherry.sock`, `tcp://host:2375`).
        path: socket path, or "" for TCP.
        host, port: TCP endpoint, or "" and 0; of ssh too, where 0 means that ssh knows.
        ssh: whether it is reached through ssh; `user` is who logs in there, `remote` a socket there, or both "".
        chosen: whether someone chose it; the default socket was not chosen.
    """

    __slots__ = ("chosen", "host", "path", "port", "remote", "ssh", "text", "user")

    def __init__(self, text: str, *, path: str = "", host: str = "", port: int = 0, chosen: bool = True) -> None:
        self.text = text
        self.path = path
        self.host = host
        self.port = port
        self.chosen = chosen
        self.ssh = False
        self.user = ""
        self.remote = ""


def chosen_text() -> str:
    """Return the address that the environment names, or the default socket's."""
    return os.environ.get("WHERRY_HOST") or os.environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"


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
    if scheme == "ssh":
        return _ssh(text, rest)
    raise InvalidArgument(
        f"Failed to initialize: unable to resolve wherry endpoint: invalid bind address format: {text}"
    )


def _ssh(text: str, rest: str) -> Address:
    """Read `ssh://[USER@]HOST[:PORT][/PATH]`: an engine on another machine, at its default socket or at PATH."""
    place, slash, path = rest.partition("/")
    user, at, endpoint = place.rpartition("@")
    host, colon, port = endpoint, "", ""
    if endpoint.startswith("["):
        host, _, port = endpoint[1:].partition("]")
        colon, port = port[:1], port[1:]
    elif ":" in endpoint:
        host, colon, port = endpoint.rpartition(":")
    problem = ""
    if ":" in user:
        problem = "plain-text password is not supported"
    elif not host or host.startswith("-") or user.startswith("-") or (at and not user):
        problem = "no host specified" if not host else f"invalid host or user in {text!r}"
    elif colon and (colon != ":" or not port.isdigit() or not 0 < int(port) < 65536):
        problem = f"invalid port {port!r}"
    elif "?" in rest or "#" in rest:
        problem = "extra query or fragment after the host"
    if problem:
        raise InvalidArgument(f"Failed to initialize: unable to resolve wherry endpoint: invalid ssh URL: {problem}")
    found = Address(text, host=host, port=int(port or "0"))
    found.ssh = True
    found.user = user
    found.remote = f"/{path}" if slash and path else ""
    return found


def choose(flag: str | None = None) -> Address:
    """The engine that this invocation talks to; `flag` is the value of `-H`."""
    for text in (flag, os.environ.get("WHERRY_HOST"), os.environ.get("DOCKER_HOST")):
        if text:
            return parse(text)
    return Address(f"unix://{DEFAULT_SOCKET}", path=DEFAULT_SOCKET, chosen=False)
