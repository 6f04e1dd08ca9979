"""Which engine: `-H`, then `WHERRY_HOST`, then `DOCKER_HOST`, then the default socket; and with which certificates."""

import os

from wherry.errors import InvalidArgument
from wherry.paths import DEFAULT_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN_PORT, _TLS_PORT = "2375", "2376"


class Tls:
    """With which files TLS is spoken; paths of PEM files.

    Attributes:
        authority: the engine's certificate must be from one of these; None accepts any.
        certificate, key: ours; None where there is none to show.
    """

    __slots__ = ("authority", "certificate", "key")

    def __init__(self, authority: str | None, certificate: str | None, key: str | None) -> None:
        self.authority = authority
        self.certificate = certificate
        self.key = key


class Address:
    """Where an engine listens.

    Attributes:
        text: as a person writes it (`unix:///run/wherry/wherry.sock`, `tcp://host:2375`).
        path: socket path, or "" for TCP.
        host, port: TCP endpoint, or "" and 0; of ssh too, where 0 means that ssh knows.
        ssh: whether it is reached through ssh; `user` is who logs in there, `remote` a socket there, or both "".
        chosen: whether someone chose it; the default socket was not chosen.
        tls: how TCP is secured; None is not at all.
    """

    __slots__ = ("chosen", "host", "path", "port", "remote", "ssh", "text", "tls", "user")

    def __init__(self, text: str, *, path: str = "", host: str = "", port: int = 0, chosen: bool = True) -> None:
        self.text = text
        self.path = path
        self.host = host
        self.port = port
        self.chosen = chosen
        self.tls: Tls | None = None
        self.ssh = False
        self.user = ""
        self.remote = ""


def chosen_text() -> str:
    """Return the address that the environment names, or the default socket's."""
    return os.environ.get("WHERRY_HOST") or os.environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"


def parse(text: str, tls: Tls | None = None) -> Address:
    """Read a host as Docker writes it; `tls` secures TCP. Raises `InvalidArgument` for schemes not spoken here."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = ("unix", text) if text.startswith("/") else ("tcp", text)
    if scheme == "unix" and rest:
        return Address(f"unix://{rest}", path=rest, chosen=rest != DEFAULT_SOCKET)
    if scheme in ("tcp", "http") and rest:
        rest = rest.rstrip("/")
        host, _, port = rest.rpartition(":")
        if not host and not rest.startswith(":"):
            host, port = rest, _PLAIN_PORT if tls is None else _TLS_PORT
            rest = f"{host}:{port}"
        if port.isdigit() and int(port) < 65536 and "/" not in rest:
            found = Address(f"tcp://{rest}", host=host.strip("[]") or "localhost", port=int(port))
            found.tls = tls
            return found
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


def _environment(name: str) -> str:
    return os.environ.get(f"WHERRY_{name}") or os.environ.get(f"DOCKER_{name}") or ""


def choose_tls(given: "Mapping[str, object]") -> Tls | None:
    """Return the certificates that the flags and the environment name, by Docker's rules; None where TLS is off.

    Args:
        given: those of the flags `tls`, `tlsverify`, `tlscacert`, `tlscert` and `tlskey` that are there.
    """
    verify = bool(given.get("tlsverify", _environment("TLS_VERIFY")))
    if not (verify or given.get("tls", _environment("TLS")) or "tlsverify" in given):
        return None
    directory = _environment("CERT_PATH") or os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")

    def path(name: str, default: str) -> str | None:
        if name in given:
            return str(given[name])
        default = f"{directory}/{default}"
        return default if name == "tlscacert" or os.path.exists(default) else None

    return Tls(path("tlscacert", "ca.pem") if verify else None, path("tlscert", "cert.pem"), path("tlskey", "key.pem"))


def choose(flag: str | None = None, given: "Mapping[str, object] | None" = None) -> Address:
    """The engine that this invocation talks to; `flag` is the value of `-H`, `given` as of `choose_tls`."""
    for text in (flag, os.environ.get("WHERRY_HOST"), os.environ.get("DOCKER_HOST")):
        if text:
            return parse(text, choose_tls(given or {}))
    return Address(f"unix://{DEFAULT_SOCKET}", path=DEFAULT_SOCKET, chosen=False)
