"""HAProxy's files: its configuration, our copies of certificates, and what a later wherryd must know of the slots."""

import hashlib
import logging
import os
import pwd
import resource
import secrets
import socket

import msgspec

from wherry.errors import PortUnavailable
from wherry.linux.files import write_atomic
from wherry.proxy.config import render
from wherry.proxy.labels import Service
from wherry.proxy.pools import State

log = logging.getLogger("wherry.services")

_USER = "haproxy"
_ROOT = "/var/lib/haproxy"
_MAX_CONNECTIONS = 16000
_SPARE_DESCRIPTORS = 500
_MAX_CERTIFICATE = 1 << 20


class Files:
    """The directory of one engine's HAProxy.

    Args:
        directory: made when something is written.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.config = f"{directory}/haproxy.cfg"
        self.state = State()
        self._missing: set[str] = set()  # certificates that have been complained about
        self.unbindable: frozenset[tuple[str, int]] = frozenset()
        """Places that somebody else has."""

    def load(self) -> None:
        """Read what an earlier wherryd has left, if any."""
        try:
            with open(f"{self._directory}/state.json", "rb") as file:
                self.state = msgspec.json.decode(file.read(), type=State)
        except (OSError, msgspec.MsgspecError):
            self.state = State(key=secrets.token_hex(16))

    def save(self) -> None:
        """Write what a later wherryd must know."""
        write_atomic(f"{self._directory}/state.json", msgspec.json.encode(self.state), durable=False)

    def write(self) -> str:
        """Write who is where, and the configuration that HAProxy would begin with.

        Returns:
            A digest of what of it the runtime API cannot change: all but what is in the slots.
        """
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        missing = frozenset(p for p in self.places() if p not in self.state.bound and not _bindable(*p))
        for address, port in missing - self.unbindable:
            log.error("services: port %s:%s is in use, nobody is served there", address or "*", port)
        self.unbindable = missing
        text = self._render()
        write_atomic(self.config, text.encode(), durable=False)
        self.save()
        # of a server's line only its name: the rest is its slot's contents, or the same for all of a backend
        shape = [" ".join(line.split()[:2]) if line.startswith("    server ") else line for line in text.splitlines()]
        contents = [_contents(pool.certificate) for _, pool in sorted(self.state.pools.items())]
        return hashlib.sha256("\n".join(shape).encode() + b"\0".join(contents)).hexdigest()

    def places(self) -> set[tuple[str, int]]:
        """Where HAProxy should listen."""
        return {pool.service.place for pool in self.state.pools.values()}

    def _render(self) -> str:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        room = _MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else (hard - _SPARE_DESCRIPTORS) // 2
        return render(
            self.state.pools,
            connections=max(100, min(_MAX_CONNECTIONS, room)),
            key=self.state.key,
            user=_user(),
            unbindable=self.unbindable,
        )

    def certificate(self, service: Service) -> str:
        """Our copy of a service's certificate; it outlives the file that was given, and follows it."""
        if not service.tls:
            return ""
        try:
            with open(service.tls, "rb") as file:
                data = file.read(_MAX_CERTIFICATE)
        except OSError as error:
            if service.tls not in self._missing:
                self._missing.add(service.tls)
                log.warning("service %s: %s: %s", service.name, service.tls, os.strerror(error.errno or 0))
            data = b""
        directory = f"{self._directory}/certificates"
        os.makedirs(directory, mode=0o700, exist_ok=True)
        path = f"{directory}/{service.name}.pem"
        if data and _contents(path) != data:
            write_atomic(path, data)
        return path


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _user() -> tuple[str, str, str] | None:
    try:
        pwd.getpwnam(_USER)
    except KeyError:
        return None
    return (_USER, _USER, _ROOT) if os.path.isdir(_ROOT) else None


def _bindable(address: str, port: int) -> bool:
    try:
        check_bindable(address, port)
    except PortUnavailable:
        return False
    return True


def check_bindable(address: str, port: int) -> None:
    """Raises PortUnavailable where HAProxy could not listen."""
    wanted = [address.strip("[]")] if address else ["0.0.0.0", "::"]
    for one in wanted:
        family = socket.AF_INET6 if ":" in one else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((one, port))
                probe.listen(1)
        except OSError as error:
            words = os.strerror(error.errno or 0).lower()
            raise PortUnavailable(f"a service cannot listen on {address or '*'}:{port}: {words}") from None
