"""Who is called what in which network: what netd answers from. Plain values, no I/O.

A name is looked up in the networks of the asking container only, in their order. `name` and `name.network` are known,
whatever dots either has; `--link` gives a container names of its own.
"""

import _socket

from wherry.network.dns_message import AAAA, A, reverse_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Member:
    """One container in one network: its names, its packed addresses."""

    __slots__ = ("addresses", "label", "names")

    def __init__(self, names: "list[str]", addresses: "list[str]") -> None:
        self.names = [name.lower() for name in names]
        self.label = names[0] if names else ""
        self.addresses = [pack(address) for address in addresses if address]


class Network:
    """One network: its name, and its members in order of connection."""

    __slots__ = ("_by_address", "_by_name", "members", "name")

    def __init__(self, name: str) -> None:
        self.name = name.lower()
        self.members: dict[str, Member] = {}
        self._by_name: dict[str, list[Member]] = {}
        self._by_address: dict[bytes, Member] = {}

    def put(self, container: str, member: Member) -> None:
        """Add a member, or replace what was known of it."""
        self.drop(container)
        self.members[container] = member
        for name in dict.fromkeys(member.names):
            self._by_name.setdefault(name, []).append(member)
        for address in member.addresses:
            self._by_address[address] = member

    def drop(self, container: str) -> None:
        """Forget a member; unknown is fine."""
        member = self.members.pop(container, None)
        if member is None:
            return
        for name in dict.fromkeys(member.names):
            left = [other for other in self._by_name.get(name, ()) if other is not member]
            if left:
                self._by_name[name] = left
            else:
                self._by_name.pop(name, None)
        for address in member.addresses:
            if self._by_address.get(address) is member:
                del self._by_address[address]

    def named(self, name: str) -> "list[Member]":
        """The members of that name (in lower case)."""
        return self._by_name.get(name, [])

    def at(self, address: bytes) -> "Member | None":
        """The member that has this packed address."""
        return self._by_address.get(address)


class Asker:
    """What one sandbox may ask: its networks in order, its links, and whether and whom to ask beyond.

    Args:
        networks: ids.
        links: alias in lower case -> container id.
        servers: `--dns`; empty means the host's.
        forward: names that nobody here has are asked of upstream servers.
        dotted_only: `--dns-opt ndots:n` was given: single words are not asked beyond, the client tries its search list.
    """

    __slots__ = ("dotted_only", "forward", "links", "networks", "servers")

    def __init__(
        self,
        networks: "list[str]",
        links: "dict[str, str]",
        servers: "list[str]",
        *,
        forward: bool = True,
        dotted_only: bool = False,
    ) -> None:
        self.networks = networks
        self.links = {alias.lower(): container for alias, container in links.items()}
        self.servers = servers
        self.forward = forward
        self.dotted_only = dotted_only


class Names:
    """Everything that is known: networks by id, askers by the id of their container."""

    __slots__ = ("_turn", "askers", "networks")

    def __init__(self) -> None:
        self.networks: dict[str, Network] = {}
        self.askers: dict[str, Asker] = {}
        self._turn = 0

    def lookup(self, asker: Asker, name: str, kind: int) -> "list[bytes] | None":
        """Packed addresses of a name in changing order; empty when it has none of this kind; None: not ours."""
        members = self._find(asker, name)
        if members is None:
            return None
        size = 4 if kind == A else 16 if kind == AAAA else 0
        found = list(dict.fromkeys(a for member in members for a in member.addresses if len(a) == size))
        if len(found) > 1:
            self._turn += 1
            first = self._turn % len(found)
            found = found[first:] + found[:first]
        return found

    def reverse(self, asker: Asker, name: str) -> "str | None":
        """The name of a member at the address that a PTR question is about: `container.network`."""
        address = reverse_name(name)
        if address is None:
            return None
        for network in self._networks(asker):
            member = network.at(address)
            if member is not None:
                return f"{member.label}.{network.name}"
        return None

    def _networks(self, asker: Asker) -> "Iterator[Network]":
        for id_ in asker.networks:
            network = self.networks.get(id_)
            if network is not None:
                yield network

    def _find(self, asker: Asker, name: str) -> "list[Member] | None":
        target = asker.links.get(name)
        for network in self._networks(asker):
            if target is not None and target in network.members:
                return [network.members[target]]
            if members := network.named(name):
                return members
        # `a.b.c` may be `a.b` in the network `c`, or `a` in the network `b.c`
        for network in self._networks(asker):
            suffix = f".{network.name}"
            if name.endswith(suffix) and (members := network.named(name[: -len(suffix)])):
                return members
        return None


def pack(address: str) -> bytes:
    """An address as the wire has it; raises OSError when it is none."""
    return _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
