"""Addresses: which subnet a network takes, and who has which address of it; IPv4 and IPv6 alike.

No lease is stored. A pool is filled at start-up from the containers that live (`reserve`), because a lease table that
survives a crash says what was, and a second truth has to be reconciled with the first.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from wherry.errors import Forbidden, InvalidArgument, WherryError

Subnet = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# dockerd's default-address-pools, in its order
_DEFAULT_POOLS = [(f"172.{second}.0.0/16", 16) for second in range(17, 32)] + [("192.168.0.0/16", 20)]
_IPV6_LENGTH = 64


def choose_subnet(taken: Iterable[str], pools: Sequence[tuple[str, int]] = ()) -> str:
    """Give the first subnet of the default pools that overlaps nothing in `taken` (networks or addresses, as text).

    Args:
        pools: (network, prefix length of each subnet of it), as `default-address-pools` sets them; Docker's without.

    Raises:
        WherryError: all are taken, in Docker's words.
    """
    return _first_free(
        (
            candidate
            for base, length in pools or _DEFAULT_POOLS
            for candidate in IPv4Network(base).subnets(new_prefix=length)
        ),
        taken,
        "IPv4",
    )


def choose_subnet6(taken: Iterable[str], seed: str) -> str:
    """Give a unique local IPv6 subnet (RFC 4193) that overlaps nothing in `taken`.

    Args:
        taken: networks or addresses, as text.
        seed: decides the 40 bits after `fd`, which the standard wants to differ from site to site.

    Raises:
        WherryError: all are taken.
    """
    site = b"\xfd" + hashlib.sha256(seed.encode()).digest()[:5] + bytes(10)
    return _first_free(IPv6Network((site, 48)).subnets(new_prefix=_IPV6_LENGTH), taken, "IPv6")


def _first_free(candidates: Iterator[IPv4Network] | Iterator[IPv6Network], taken: Iterable[str], family: str) -> str:
    busy = [ip_network(text, strict=False) for text in taken]
    for candidate in candidates:
        if not any(_overlap(candidate, other) for other in busy):
            return str(candidate)
    raise WherryError(
        f"could not find an available, non-overlapping {family} address pool among the defaults to assign to the"
        " network"
    )


def overlaps(subnet: str, taken: Iterable[str]) -> bool:
    """Say whether `subnet` shares an address with anything in `taken`."""
    network = ip_network(subnet, strict=False)
    return any(_overlap(network, ip_network(text, strict=False)) for text in taken)


def _overlap(one: Subnet, other: Subnet) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


class Exhausted(WherryError):
    """No address of a pool is free."""


class Pool:
    """The addresses of one subnet. The lowest free one is given next, as dockerd does.

    Args:
        subnet: `172.17.0.0/16`, `fd00::/64`.
        gateway: an address of it that nobody gets; without one the first of the range, as dockerd does.
        ip_range: the part of it from which addresses are given; all of it where empty.
        reserved: further addresses that nobody gets.

    Raises:
        InvalidArgument: no subnet, or an address or range outside of it.
    """

    def __init__(
        self, subnet: str, gateway: str | None = None, ip_range: str = "", reserved: Iterable[str] = ()
    ) -> None:
        try:
            self._network: Subnet = ip_network(subnet)
            given = ip_network(ip_range, strict=False) if ip_range else self._network
            first = max(int(given.network_address), int(self._network.network_address) + 1)
            chosen = ip_address(gateway) if gateway else _address(first, self._network.version)
            kept = [ip_address(text) for text in reserved]
        except ValueError as error:
            raise InvalidArgument(f"invalid subnet {subnet}: {error}") from None
        for address in (chosen, *kept):
            if address not in self._network:
                raise InvalidArgument(f"gateway {address} is not in subnet {self._network}")
        if given.version != self._network.version or given.network_address not in self._network:
            raise InvalidArgument(f"range {given} is not in subnet {self._network}")
        self.gateway = str(chosen)
        self._first, self._last = _usable(self._network)
        self._range_last = min(int(given.broadcast_address), self._last)
        self._owners: dict[int, str] = {int(address): "gateway" for address in (chosen, *kept)}
        self._next = max(int(given.network_address), self._first)  # below it everything was given out once
        self._range_first = self._next
        self._returned: list[int] = []  # heap of what came back

    @property
    def subnet(self) -> str:
        """The subnet, as text."""
        return str(self._network)

    @property
    def prefix_length(self) -> int:
        """Its prefix length, in bits."""
        return int(self._network.prefixlen)

    def contains(self, address: str) -> bool:
        """Say whether `address` is one of the subnet's."""
        try:
            return ip_address(address) in self._network
        except ValueError:
            return False

    def allocate(self, owner: str) -> str:
        """Give the lowest free address to `owner`.

        Raises:
            Exhausted: none is free, in Docker's words.
        """
        while self._returned:
            number = heapq.heappop(self._returned)
            if number not in self._owners:
                return self._give(number, owner)
        while self._next <= self._range_last:
            number, self._next = self._next, self._next + 1
            if number not in self._owners:
                return self._give(number, owner)
        raise Exhausted(f"no available IPv{self._network.version} addresses on this network's address pools")

    def reserve(self, address: str, owner: str) -> None:
        """Give exactly `address` to `owner`; a second time to the same owner is fine.

        Raises:
            InvalidArgument: it is not an address of this subnet that a container can have.
            Forbidden: another owner has it, in Docker's words.
        """
        number = self._number(address)
        if not self._first <= number <= self._last:
            raise InvalidArgument(f"no configured subnet contains IP address {address}")
        if self._owners.setdefault(number, owner) != owner:
            raise Forbidden("Address already in use")

    def release(self, address: str, owner: str) -> None:
        """Take `address` back from `owner`; of another owner, or of none, it stays as it is."""
        number = self._number(address)
        if self._owners.get(number) == owner:
            del self._owners[number]
            if self._range_first <= number < self._next:
                heapq.heappush(self._returned, number)

    def owner(self, address: str) -> str | None:
        """Tell who has `address`."""
        return self._owners.get(self._number(address))

    def _number(self, address: str) -> int:
        try:
            number = ip_address(address)
        except ValueError:
            raise InvalidArgument(f"invalid address {address}") from None
        if number.version != self._network.version:
            raise InvalidArgument(f"no configured subnet contains IP address {address}")
        return int(number)

    def _give(self, number: int, owner: str) -> str:
        self._owners[number] = owner
        return str(_address(number, self._network.version))


def _address(number: int, version: int) -> Address:
    return IPv4Address(number) if version == 4 else IPv6Address(number)


def _usable(network: Subnet) -> tuple[int, int]:
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.prefixlen >= network.max_prefixlen - 1:
        return first, last
    # the address of all zeros is every router's in IPv6; only IPv4 has one for broadcasts
    return first + 1, last - 1 if network.version == 4 else last


def derive_mac(address: str) -> str:
    """Derive a container's MAC from its IPv4 address, as dockerd does: 172.17.0.2 is 02:42:ac:11:00:02.

    Unique where addresses are, and the same again after a restart: neighbours' caches stay true.
    """
    return (b"\x02\x42" + IPv4Address(address).packed).hex(":")
