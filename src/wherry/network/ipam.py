"""Addresses: which subnet a network takes, and who has which address of it.

Nothing is stored. A pool is filled at start-up from the containers that live (`reserve`), because a lease table that
survives a crash says what was, and a second truth has to be reconciled with the first.
"""

import heapq
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from wherry.errors import Forbidden, InvalidArgument, WherryError

# dockerd's default-address-pools, in its order
_DEFAULT_POOLS = [(f"172.{second}.0.0/16", 16) for second in range(17, 32)] + [("192.168.0.0/16", 20)]


def choose_subnet(taken: Iterable[str]) -> str:
    """Give the first of Docker's default pools that overlaps nothing in `taken` (networks or addresses, as text).

    Raises:
        WherryError: all are taken, in Docker's words.
    """
    busy = [network for text in taken if (network := _network(text)) is not None]
    for base, length in _DEFAULT_POOLS:
        for candidate in IPv4Network(base).subnets(new_prefix=length):
            if not any(candidate.overlaps(other) for other in busy):
                return str(candidate)
    raise WherryError(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )


def overlaps(subnet: str, taken: Iterable[str]) -> bool:
    """Say whether `subnet` shares an address with anything in `taken`."""
    network = IPv4Network(subnet)
    return any(network.overlaps(other) for text in taken if (other := _network(text)) is not None)


def _network(text: str) -> IPv4Network | None:
    return None if ":" in text else IPv4Network(text, strict=False)


class Pool:
    """The addresses of one IPv4 subnet. The lowest free one is given next, as dockerd does.

    Args:
        subnet: `172.17.0.0/16`.
        gateway: an address of it that nobody gets; without one the first.

    Raises:
        InvalidArgument: no subnet, or a gateway outside of it.
    """

    def __init__(self, subnet: str, gateway: str | None = None) -> None:
        try:
            self._network = IPv4Network(subnet)
            chosen = IPv4Address(gateway) if gateway else self._network.network_address + 1
        except ValueError as error:
            raise InvalidArgument(f"invalid subnet {subnet}: {error}") from None
        if chosen not in self._network:
            raise InvalidArgument(f"gateway {chosen} is not in subnet {self._network}")
        self.gateway = str(chosen)
        first, last = int(self._network.network_address), int(self._network.broadcast_address)
        if self._network.prefixlen < 31:
            first, last = first + 1, last - 1
        self._first, self._last = first, last
        self._owners: dict[int, str] = {int(chosen): "gateway"}
        self._next = first  # below it everything was given out once
        self._returned: list[int] = []  # heap of what came back

    @property
    def subnet(self) -> str:
        """The subnet, as text."""
        return str(self._network)

    @property
    def prefix_length(self) -> int:
        """Its prefix length, in bits."""
        return int(self._network.prefixlen)

    def allocate(self, owner: str) -> str:
        """Give the lowest free address to `owner`.

        Raises:
            WherryError: none is free, in Docker's words.
        """
        while self._returned:
            number = heapq.heappop(self._returned)
            if number not in self._owners:
                return self._give(number, owner)
        while self._next <= self._last:
            number, self._next = self._next, self._next + 1
            if number not in self._owners:
                return self._give(number, owner)
        raise WherryError("no available IPv4 addresses on this network's address pools")

    def reserve(self, address: str, owner: str) -> None:
        """Give exactly `address` to `owner`; a second time to the same owner is fine.

        Raises:
            InvalidArgument: it is not an address of this subnet that a container can have.
            Forbidden: another owner has it, in Docker's words.
        """
        try:
            number = int(IPv4Address(address))
        except ValueError:
            raise InvalidArgument(f"invalid address {address}") from None
        if not self._first <= number <= self._last:
            raise InvalidArgument(f"no configured subnet contains IP address {address}")
        if self._owners.setdefault(number, owner) != owner:
            raise Forbidden("Address already in use")

    def release(self, address: str, owner: str) -> None:
        """Take `address` back from `owner`; of another owner, or of none, it stays as it is."""
        number = int(IPv4Address(address))
        if self._owners.get(number) == owner:
            del self._owners[number]
            if number < self._next:
                heapq.heappush(self._returned, number)

    def owner(self, address: str) -> str | None:
        """Tell who has `address`."""
        return self._owners.get(int(IPv4Address(address)))

    def _give(self, number: int, owner: str) -> str:
        self._owners[number] = owner
        return str(IPv4Address(number))


def derive_mac(address: str) -> str:
    """Derive a container's MAC from its IPv4 address, as dockerd does: 172.17.0.2 is 02:42:ac:11:00:02.

    Unique where addresses are, and the same again after a restart: neighbours' caches stay true.
    """
    return (b"\x02\x42" + IPv4Address(address).packed).hex(":")
