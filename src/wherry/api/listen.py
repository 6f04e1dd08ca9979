"""Sockets to listen on, by dockerd's addresses."""

import errno
import grp
import os
import socket

from wherry.errors import Conflict, InvalidArgument

BACKLOG = 512
_PATH_LIMIT = 107


def open_listener(address: str, group: str | None = None, *, listen: bool = True) -> socket.socket:
    """Open a listening, non-blocking socket.

    Args:
        address: `unix:///path`, a path, or `tcp://host:port` (`tcp://[::1]:2375`).
        group: who may use a unix socket besides its owner; a group that does not exist is left out.
        listen: without it the socket is bound only: nobody is kept waiting at it.

    Raises:
        InvalidArgument: an address that is none.
        Conflict: somebody answers at the unix socket.
        OSError: it cannot be bound.
    """
    scheme, found, rest = address.partition("://")
    if not found:
        scheme, rest = ("unix", address) if address.startswith("/") else ("tcp", address)
    if scheme == "unix" and rest.startswith("/"):
        return _unix(rest, group, listen=listen)
    if scheme == "tcp":
        host, _, port = rest.rstrip("/").rpartition(":")
        if port.isascii() and port.isdigit() and int(port) < 65536:
            return _tcp(host.strip("[]"), int(port), listen=listen)
    raise InvalidArgument(f'Invalid bind address format: "{address}"')


def _tcp(host: str, port: int, *, listen: bool) -> socket.socket:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, where = found[0]
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
