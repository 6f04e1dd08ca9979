"""Published ports: what a create request says, and which host ports an endpoint gets.

A host port is held by a socket that is bound and does not listen: it costs no process, and any other program that
wants the port gets the kernel's "address already in use". Packets never reach it, the firewall translates them before.
The descriptor is the monitor's to keep, so that the port stays taken while wherryd is away.
"""

import errno
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Protocol

from wherry.errors import InvalidArgument, NotSupported, PortUnavailable

WILDCARD, WILDCARD6 = "0.0.0.0", "::"
LOOPBACK6 = "::1"
PROTOCOLS = ("tcp", "udp", "sctp")
RELAYED_PROTOCOLS = ("tcp", "udp")
_RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
_DEFAULT_RANGE = (32768, 60999)
_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


def is_wildcard(host_ip: str) -> bool:
    """Whether a host address means all of its family."""
    return host_ip in (WILDCARD, WILDCARD6)


class Binding(Protocol):
    """`wire.containers.PortBinding`, or anything like it."""

    host_ip: str
    host_port: str


class PortRequest:
    """One wish: a container port, and where on the host; an empty address is every one.

    `first` 0 leaves the choice of the port to us, else `first`-`last`.
    """

    __slots__ = ("container_port", "first", "host_ip", "last", "protocol")

    def __init__(self, protocol: str, container_port: int, host_ip: str = "", first: int = 0, last: int = 0) -> None:
        self.protocol = protocol
        self.container_port = container_port
        self.host_ip = host_ip
        self.first = first
        self.last = last or first

    def __repr__(self) -> str:
        where = f"{self.host_ip or '*'}:{self.first}-{self.last}"
        return f"PortRequest({where}:{self.container_port}/{self.protocol})"


class PublishedPort:
    """One host port that leads to a container's port."""

    __slots__ = ("container_ip", "container_port", "host_ip", "host_port", "protocol")

    def __init__(self, protocol: str, host_ip: str, host_port: int, container_ip: str, container_port: int) -> None:
        self.protocol = protocol
        self.host_ip = host_ip
        self.host_port = host_port
        self.container_ip = container_ip
        self.container_port = container_port

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublishedPort) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.protocol, self.host_ip, self.host_port))

    def __repr__(self) -> str:
        return f"PublishedPort({self})"

    def __str__(self) -> str:
        host, container = bracketed(self.host_ip), bracketed(self.container_ip)
        return f"{host}:{self.host_port}:{container}:{self.container_port}/{self.protocol}"

    @property
    def translated(self) -> bool:
        """The kernel leads it to the container: both are of one family, and it is not `::1`, which NAT cannot do."""
        return (":" in self.host_ip) == (":" in self.container_ip) and self.host_ip != LOOPBACK6

    @property
    def relayed(self) -> bool:
        """A relay serves it, or what of it the kernel cannot: IPv6 towards a container without, and `::1`."""
        ours = not self.translated or self.host_ip == WILDCARD6
        return ":" in self.host_ip and ours and self.protocol in RELAYED_PROTOCOLS

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes back."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PublishedPort":
        """Rebuild a port from `to_json`."""
        return cls(**{name: value[name] for name in cls.__slots__})


def bracketed(address: str) -> str:
    """An address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def parse_port_key(key: str) -> tuple[int, str]:
    """Take `80/tcp` (or `80`) apart: the container port and its protocol.

    Raises:
        InvalidArgument: it is neither.
    """
    number, _, protocol = key.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}")
    return _parse_number(number, number, least=1), protocol


def parse_requests(
    exposed: Iterable[str] | None,
    bindings: Mapping[str, Sequence[Binding] | None] | None,
    publish_all: bool = False,
) -> list[PortRequest]:
    """Read what a create request publishes, sorted by container port.

    Args:
        exposed: keys of `Config.ExposedPorts`, the image's included.
        bindings: `HostConfig.PortBindings`.
        publish_all: `HostConfig.PublishAllPorts`: what is exposed and not bound gets a port of our choice.

    Raises:
        InvalidArgument: in Docker's words.
        NotSupported: a host address on which nothing can be published.
    """
    requests: list[PortRequest] = []
    bound = set()
    for key, wishes in (bindings or {}).items():
        port, protocol = parse_port_key(key)
        bound.add((port, protocol))
        if not wishes:
            requests.append(PortRequest(protocol, port))
        for wish in wishes or ():
            first, last = _parse_range(wish.host_port)
            requests.append(PortRequest(protocol, port, parse_host_ip(wish.host_ip), first, last))
    for key in exposed or () if publish_all else ():
        port, protocol = parse_port_key(key)
        if (port, protocol) not in bound:
            requests.append(PortRequest(protocol, port))
    requests.sort(key=lambda request: (request.container_port, request.protocol))
    return requests


def parse_host_ip(text: str) -> str:
    """Normalise a host address; empty stays empty: every address.

    Raises:
        InvalidArgument: no address.
    """
    if not text:
        return ""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        raise InvalidArgument(f"invalid IP address: {text}") from None
    return str(address)


def _parse_range(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    first, dash, last = text.partition("/")[0].partition("-")
    start = _parse_number(first, text)
    end = _parse_number(last, text) if dash else start
    if end < start:
        raise InvalidArgument(f'invalid port specification: "{text}"')
    return start, end


def _parse_number(text: str, whole: str, least: int = 0) -> int:
    # int() would take "٨", "+8" and "8_0"
    if text.isascii() and text.isdigit() and len(text) <= 5 and least <= int(text) <= 65535:
        return int(text)
    raise InvalidArgument(f'invalid port specification: "{whole}"')


class HeldPort:
    """A published port and the socket that holds it: `fd`, or -1 where another process has it or the kernel cannot."""

    __slots__ = ("fd", "port")

    def __init__(self, port: PublishedPort, fd: int = -1) -> None:
        self.port = port
        self.fd = fd

    def close(self) -> None:
        """Close our copy of the descriptor. The port is free when the last copy is closed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class HostPorts:
    """The host ports that this engine has given out, and to whom."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, int], dict[str, str]] = {}  # protocol, port -> host address -> owner
        self._next = 0

    def allocate(
        self,
        owner: str,
        requests: Iterable[PortRequest],
        container_ip: str,
        endpoint: str,
        container_ip6: str = "",
        binding: str = "",
    ) -> list[HeldPort]:
        """Get a host port for each request, all or none.

        Args:
            owner: container id.
            requests: from `parse_requests`.
            container_ip, container_ip6: where they lead, over IPv4 and IPv6.
            endpoint: `NAME (ENDPOINT ID)`, for the error.
            binding: the host address of requests that name none; empty: every.

        Raises:
            PortUnavailable: a port is taken, in Docker's words.
            NotSupported: an IPv6 address of the host, and the container has none.
        """
        held: list[HeldPort] = []
        try:
            for request in requests:
                targets = _targets(request, binding, container_ip, container_ip6)
                held += self._allocate(owner, request, targets)
        except BaseException as error:
            for one in held:
                one.close()
                self._forget(owner, one.port)
            if isinstance(error, PortUnavailable):
                words = f"driver failed programming external connectivity on endpoint {endpoint}: {error}"
                raise PortUnavailable(words, **error.facts) from None
            raise
        return held

    def reserve(self, owner: str, ports: Iterable[PublishedPort]) -> None:
        """Record ports that live already: their monitor holds the sockets.

        Raises:
            PortUnavailable: another owner is recorded.
        """
        for port in ports:
            if self._conflict(port.protocol, port.host_ip, port.host_port, owner):
                raise _allocated(port.host_ip, port.host_port)
            self._record(owner, port)

    def release(self, owner: str, ports: Iterable[PublishedPort]) -> None:
        """Forget ports of `owner`; those that it does not have are left alone."""
        for port in ports:
            self._forget(owner, port)

    def _allocate(self, owner: str, request: PortRequest, targets: "list[tuple[str, str]]") -> list[HeldPort]:
        """Hold the same port on every host address of `targets`."""
        chosen = request.first and request.first == request.last
        for number in self._candidates(request):
            taken = [host for host, _ in targets if self._conflict(request.protocol, host, number)]
            if taken:
                if chosen:
                    raise _allocated(taken[0], number)
                continue
            held: list[HeldPort] = []
            try:
                for host, container in targets:
                    port = PublishedPort(request.protocol, host, number, container, request.container_port)
                    held.append(HeldPort(port, _bind(port)))
            except OSError as error:
                for one in held:
                    one.close()
                if error.errno == errno.EADDRINUSE and not chosen:
                    continue
                reason = os.strerror(error.errno or 0).lower()
                words = f"failed to bind host port for {port}: {reason}"
                raise PortUnavailable(words, host_ip=port.host_ip, host_port=number) from None
            for one in held:
                self._record(owner, one.port)
            return held
        raise PortUnavailable("all ports are allocated", host_ip=request.host_ip)

    def _candidates(self, request: PortRequest) -> Iterable[int]:
        if request.first:
            yield from range(request.first, request.last + 1)
            return
        low, high = _ephemeral_range()
        # onward from the last one, so that a port just given back is not at once another container's
        start = self._next if low <= self._next <= high else low
        for number in [*range(start, high + 1), *range(low, start)]:
            self._next = number + 1
            yield number

    def _conflict(self, protocol: str, host_ip: str, number: int, but: str = "") -> bool:
        for address, owner in self._taken.get((protocol, number), {}).items():
            same_family = (":" in address) == (":" in host_ip)
            if owner != but and same_family and (is_wildcard(address) or is_wildcard(host_ip) or address == host_ip):
                return True
        return False

    def _record(self, owner: str, port: PublishedPort) -> None:
        self._taken.setdefault((port.protocol, port.host_port), {})[port.host_ip] = owner

    def _forget(self, owner: str, port: PublishedPort) -> None:
        addresses = self._taken.get((port.protocol, port.host_port), {})
        if addresses.get(port.host_ip) == owner:
            del addresses[port.host_ip]
            if not addresses:
                del self._taken[port.protocol, port.host_port]


def _targets(request: PortRequest, binding: str, container_ip: str, container_ip6: str) -> "list[tuple[str, str]]":
    """Where a port is taken on the host, and where each of these leads; what leads to another family is relayed."""
    # the usual binding of IPv4 says nothing about IPv6
    host_ip = request.host_ip or (binding if binding != WILDCARD else "")
    relayed = request.protocol in RELAYED_PROTOCOLS
    if not host_ip:
        other = container_ip if relayed and _has_ipv6() else ""
        both = [(WILDCARD, container_ip), (WILDCARD6, container_ip6 or other)]
        return [(host, container) for host, container in both if container]
    if ":" not in host_ip:
        return [(host_ip, container_ip)]
    if not relayed and (not container_ip6 or host_ip == LOOPBACK6):
        raise NotSupported(f"publishing {request.protocol} on [{host_ip}] needs a network with IPv6, and not ::1")
    return [(host_ip, container_ip6 or container_ip)]


def _has_ipv6() -> bool:
    """Whether this host has any IPv6 address, were it only ::1."""
    try:
        with open("/proc/thread-self/net/if_inet6", "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _allocated(host_ip: str, number: int) -> PortUnavailable:
    words = f"Bind for {bracketed(host_ip)}:{number} failed: port is already allocated"
    return PortUnavailable(words, host_ip=host_ip, host_port=number)


def _ephemeral_range() -> tuple[int, int]:
    try:
        with open(_RANGE_FILE, "rb") as file:
            low, high = file.read().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return _DEFAULT_RANGE


def _bind(port: PublishedPort) -> int:
    kind, protocol = _KINDS[port.protocol]
    try:
        family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
        holder = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return -1  # a kernel without SCTP: nobody else can take the port either
        raise
    with holder:
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if port.protocol == "tcp":
            # to bind over connections in TIME_WAIT; then off again, so that no other listener gets past us
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((port.host_ip, port.host_port))
        if port.protocol == "tcp":
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        if port.protocol == "udp" and not port.relayed:
            # datagrams come here only while the table is missing: let them not pile up
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        return holder.detach()
