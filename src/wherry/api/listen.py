"""Sockets to listen on, by dockerd's addresses."""

import errno
import grp
import os
import re
import socket

from wherry.errors import Conflict, InvalidArgument

BACKLOG = 512
_PATH_LIMIT = 107
_PLAIN_PORT, _TLS_PORT = 2375, 2376
_THIS_MACHINE = "127.0.0.1"
_TCP = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.%a-z]+)\]|(?P<host>[^\[\]/:]*))(?::(?P<port>[0-9]{1,5}))?/?", re.ASCII)


class Place:
    """An address to listen on.

    Attributes:
        path: of a unix socket; "" for TCP.
        host, port: for TCP.
        text: the address in full, `tcp://127.0.0.1:2376`.
    """

    __slots__ = ("host", "path", "port")

    def __init__(self, path: str = "", host: str = "", port: int = 0) -> None:
        self.path = path
        self.host = host
        self.port = port

    @property
    def text(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def parse_place(address: str, *, tls: bool = False) -> Place:
    """Read an address as of `dockerd -H`.

    Args:
        address: `unix:///path`, a path, or `tcp://[HOST][:PORT]` (`tcp://[::1]:2375`); no host is this machine alone.
        tls: the port is 2376 where none is named, else 2375.

    Raises:
        InvalidArgument: an address that is none.
    """
    scheme, found, rest = address.partition("://")
    if not found and address:
        scheme, rest = ("unix", address) if address.startswith("/") else ("tcp", address)
    if scheme == "unix" and rest.startswith("/"):
        return Place(rest)
    if scheme == "tcp":
        match = _TCP.fullmatch(rest)
        port = int(match["port"] or (_TLS_PORT if tls else _PLAIN_PORT)) if match else 65536
        if match and port < 65536:
            return Place(host=match["v6"] or match["host"] or _THIS_MACHINE, port=port)
    raise InvalidArgument(f'Invalid bind address format: "{address}"')


def open_listener(address: str, group: str | None = None, *, listen: bool = True, tls: bool = False) -> socket.socket:
    """Open a listening, non-blocking socket.

    Args:
        address, tls: see `parse_place`.
        group: who may use a unix socket besides its owner; a group that does not exist is left out.
        listen: without it the socket is bound only: nobody is kept waiting at it.

    Raises:
        InvalidArgument: an address that is none.
        Conflict: somebody answers at the unix socket.
        OSError: it cannot be bound.
    """
    place = parse_place(address, tls=tls)
    return _unix(place.path, group, listen=listen) if place.path else _tcp(place.host, place.port, listen=listen)


def _tcp(host: str, port: int, *, listen: bool) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # of a name's addresses an IPv4 one, as dockerd
    family, kind, protocol, _, where = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        if listen:
            sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix(path: str, group: str | None, *, listen: bool) -> socket.socket:
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # a socket's path has at most 107 bytes: a longer one goes by the directory's descriptor
        short = len(os.fsencode(path)) <= _PATH_LIMIT
        name = path if short else f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        _clear(name, path)
        mask = os.umask(0o177)
        try:
            sock.bind(name)
        finally:
            os.umask(mask)
        if group is not None:
            _share(name, group)
        if listen:
            sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock


def _share(name: str, group: str) -> None:
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        return
    os.chown(name, -1, gid)
    os.chmod(name, 0o660)


def _clear(name: str, path: str) -> None:
    """Remove the socket that a killed engine left; one that answers is somebody's."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(name)
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            os.unlink(name)
        elif error.errno != errno.ENOENT:
            raise
    else:
        raise Conflict(f"another engine answers at {path}")
    finally:
        probe.close()
