"""`EXPOSE` words: `80`, `80/udp`, `8000-8010`, and the forms with address and host port that BuildKit still takes."""

import ipaddress
from collections.abc import Callable

from wherry.builder.language.errors import DockerfileError
from wherry.values.gotext import quote

MAX_PORTS = 4 * 65536
"""So many ports the EXPOSEs of a Dockerfile may name."""

Warn = Callable[[str, str], None]


def parse_ports(words: list[str], warn: Warn | None = None) -> tuple[str, ...]:
    """`port/protocol` for each port that `words` name, in order.

    Args:
        words: expanded words of the instruction.
        warn: called with a lint rule's name and the word when the word should not be written so.

    Raises:
        DockerfileError: no port, an unknown protocol, a number out of range; BuildKit's words.
    """
    out: list[str] = []
    for word in words:
        out += _parse(word, warn)
        if len(out) > MAX_PORTS:
            raise DockerfileError(f"EXPOSE names more than {MAX_PORTS} ports")
    return tuple(out)


def _parse(word: str, warn: Warn | None) -> list[str]:
    *front, container = word.split(":")
    host_port = front.pop() if front else ""
    address = ":".join(front)
    ports, _, protocol = container.partition("/")
    if not ports:
        raise DockerfileError(f"invalid port: {quote(word)}: no port specified")
    protocol = protocol or "tcp"
    if protocol.lower() not in ("tcp", "udp", "sctp"):
        raise DockerfileError(f"invalid port: {quote(word)}: invalid proto: {protocol}")
    if warn is not None and protocol != protocol.lower():
        warn("ExposeProtoCasing", word)
    if warn is not None and (address or host_port):
        warn("ExposeInvalidFormat", word)
    if address and not _is_address(address):
        raise DockerfileError(f"invalid IP address: {address}")
    span = _range(ports)
    if span is None:
        raise DockerfileError(f"invalid containerPort: {ports}")
    if host_port:
        host = _range(host_port)
        if host is None:
            raise DockerfileError(f"invalid hostPort: {host_port}")
        if span[1] != span[0] and span[1] - span[0] != host[1] - host[0]:
            raise DockerfileError(f"invalid ranges specified for container and host Ports: {ports} and {host_port}")
    return [f"{port}/{protocol.lower()}" for port in range(span[0], span[1] + 1)]


def _is_address(text: str) -> bool:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return False
    return "%" not in bare


def _range(text: str) -> tuple[int, int] | None:
    first, dash, last = text.partition("-")
    start = _port(first)
    end = _port(last) if dash else start
    if start is None or end is None or end < start:
        return None
    return start, end


def _port(text: str) -> int | None:
    digits = text.removeprefix("+")
    if not digits or len(digits) > 5 or digits.strip("0123456789"):
        return None
    return int(digits) if int(digits) <= 65535 else None
