"""A container's network namespace, from the inside."""

import json
import os
import socket
from collections.abc import Callable
from typing import TypeVar

from tests.e2e.harness import EngineProcess, until

from wherry.linux import netns

T = TypeVar("T")
TENTATIVE = 0x40


class Place:
    """A container's network namespace, which the test enters as a privileged process of the container would.

    Args:
        engine: whose.
        name: of the container, which runs.
        ipv6: wait for its link-local address.

    Attributes:
        mac, address, address6: what the engine gave it on its first network.
    """

    def __init__(self, engine: EngineProcess, name: str, *, ipv6: bool = True) -> None:
        found = json.loads(engine.docker("inspect", name).out)[0]
        self._pid = int(found["State"]["Pid"])
        networks = found["NetworkSettings"]["Networks"].values()
        settings = next((one for one in networks if one["EndpointID"]), None)
        self.mac: str = settings["MacAddress"] if settings else ""
        self.address: str = settings["IPAddress"] if settings else ""
        self.address6: str = settings["GlobalIPv6Address"] if settings else ""
        if ipv6:
            until(lambda: self.local != "", f"{name} has a link-local address")

    def at(self, action: Callable[[], T]) -> T:
        """Run `action` there."""
        fd = os.open(f"/proc/{self._pid}/ns/net", os.O_RDONLY)
        try:
            return netns.inside(fd, action)
        finally:
            os.close(fd)

    def read(self, path: str) -> list[list[str]]:
        """The words of a file's lines."""

        def read() -> list[list[str]]:
            with open(path, encoding="ascii") as file:
                return [line.split() for line in file]

        return self.at(read)

    def write(self, path: str, value: str) -> None:
        """Write a parameter of that namespace."""

        def write() -> None:
            with open(path, "w", encoding="ascii") as file:
                file.write(value)

        self.at(write)

    @property
    def local(self) -> str:
        """Its link-local address; empty until it may be used."""
        for address, *_, flags, name in self.read("/proc/thread-self/net/if_inet6"):
            if name == "eth0" and address.startswith("fe80") and not int(flags, 16) & TENTATIVE:
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address))
        return ""

    @property
    def index(self) -> int:
        """The number of its interface."""
        return self.at(lambda: socket.if_nametoindex("eth0"))

    def has_address(self, prefix: str) -> bool:
        """Whether an address of its begins with these hexadecimal digits."""
        return any(line[0].startswith(prefix) for line in self.read("/proc/thread-self/net/if_inet6"))

    def routes_over(self, router: str) -> bool:
        """Whether IPv6 leaves by this router."""
        wanted = socket.inet_pton(socket.AF_INET6, router).hex()
        return any(line[1] == "00" and line[4] == wanted for line in self.read("/proc/thread-self/net/ipv6_route"))
