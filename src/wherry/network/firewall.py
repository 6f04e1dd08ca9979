"""NAT and published ports: one nftables table of our own, whose size on the packet's way does not grow.

The table (family ip, named after the data root) has a handful of rules and two maps. A published port is one map
element; adding one, and finding one, costs the same with a thousand others there.

    addressed   host address . protocol . port  ->  container address . port      (`-p 127.0.0.1:8080:80`)
    everywhere  protocol . port                 ->  container address . port      (`-p 8080:80`)

- **From outside and from containers**: prerouting translates the destination. A container that reaches a port of its
  own bridge through the host (hairpin) is masqueraded, else the answer would take the short way and not be recognised.
- **From this host**: output translates; a connection to 127.0.0.1 gets the bridge's address as its source, which needs
  `route_localnet` on the bridge (and only there).
- **Loopback stays loopback** (moby#41872): translation comes before the kernel's check for martians, so a neighbour
  that sends to 127.0.0.1:8080 is translated. The forward hook, where nothing of this host's own passes, drops it by
  where it was meant to go. A container's is dropped at once. (The raw hook could look the port up in the maps, but
  Linux 6.1 takes no map for a set.)
- **Only what was published**: what enters the bridge from elsewhere must belong to a known connection or have been
  translated; a neighbour that routes to the container's address gets nothing.
- **Nobody else's rules are touched.** An `accept` here does not lift a `drop` there: where another program (dockerd,
  ufw) drops forwarded packets by policy, the host's owner has to allow the bridge in *its* rules.

A UDP flow that goes on keeps the translation of its first packet, so flows that a change concerns are forgotten.

A change is one transaction. Where elements cannot be added because somebody flushed the ruleset, the whole table comes
back, in one transaction too. Established connections survive that: their translation is the connection tracker's.
"""

import errno
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from wherry.errors import KernelError
from wherry.linux.conntrack import forget_udp
from wherry.linux.nftables import Nftables
from wherry.network.ports import WILDCARD, PublishedPort

_RULES = """\
table ip {table} {{
  map addressed {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  map everywhere {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}

  chain early {{
    type filter hook prerouting priority raw; policy accept;
    iifname {bridges} ip saddr 127.0.0.0/8 drop
    iifname {bridges} ip daddr 127.0.0.0/8 drop
  }}
  chain loopback {{
    type filter hook forward priority filter - 1; policy accept;
    oifname {bridges} ct original ip daddr 127.0.0.0/8 drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    oifname != {bridges} accept
    ct state established,related accept
    ct status dnat accept
{between}    drop
  }}
  chain published {{
    meta l4proto {{ tcp, udp, sctp }} dnat ip to ip daddr . meta l4proto . th dport map @addressed
    meta l4proto {{ tcp, udp, sctp }} fib daddr type local dnat ip to meta l4proto . th dport map @everywhere
  }}
  chain arriving {{
    type nat hook prerouting priority dstnat; policy accept;
    jump published
  }}
  chain local {{
    type nat hook output priority -100; policy accept;
    jump published
  }}
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname {bridges} ip saddr 127.0.0.0/8 masquerade
{masquerade}  }}
}}
"""


class Firewall:
    """One engine's table, and the record of what is published in it. Blocking calls of 0.1-2 ms; threads take turns.

    Args:
        table: its name (`Roots.scope`); nobody else's may be called so.
        networks: bridge name -> subnet, of every network that is translated.
        open_nftables: gives the way to the kernel; opened at first use, in the namespace of that moment.
    """

    def __init__(
        self, table: str, networks: Mapping[str, str], open_nftables: Callable[[], Nftables] = Nftables
    ) -> None:
        self._table = table
        self._networks = dict(networks)
        self._open = open_nftables
        self._nftables: Nftables | None = None
        self._published: dict[str, tuple[PublishedPort, ...]] = {}
        self._lock = threading.Lock()

    def rebuild(self, published: Mapping[str, Sequence[PublishedPort]] | None = None) -> None:
        """Put the whole table in place, replacing what was there under its name, in one transaction.

        Args:
            published: owner -> its ports, which replace the record; None keeps the record.

        Raises:
            KernelError: the kernel refused; the old table stands.
        """
        with self._lock:
            if published is not None:
                self._published = {owner: tuple(ports) for owner, ports in published.items() if ports}
            self._rebuild()

    def publish(self, owner: str, ports: Iterable[PublishedPort]) -> None:
        """Make an owner's ports reachable: one element each, one transaction, whatever else is published.

        Raises:
            KernelError: the kernel refused; none of them is published.
        """
        chosen = tuple(ports)
        if not chosen:
            return
        with self._lock:
            before = self._published.get(owner, ())
            self._published[owner] = before + chosen
            try:
                self._change("add", chosen, f"publish ports of {owner[:12]}")
            except BaseException:
                self._published[owner] = before
                if not before:
                    del self._published[owner]
                raise
        # a client that was already sending to the port has a flow that leads nowhere
        _forget(ports=chosen)

    def unpublish(self, owner: str) -> None:
        """Take all of an owner's ports back; an owner without any is fine.

        Raises:
            KernelError: the kernel refused.
        """
        with self._lock:
            ports = self._published.pop(owner, ())
            if ports:
                self._change("delete", ports, f"withdraw ports of {owner[:12]}")
        _forget(translated_to=ports)

    def present(self) -> bool:
        """Say whether the table is (still) there; after somebody's `flush ruleset` it is not, and wants `rebuild`."""
        with self._lock:
            try:
                self._run(f"list chain ip {self._table} published", "look at the firewall table")
            except KernelError as error:
                if error.errno == errno.ENOENT:
                    return False
                raise
            return True

    def restore(self) -> bool:
        """Put the table back if somebody flushed it; says whether that was so.

        Raises:
            KernelError: the kernel refused.
        """
        if self.present():
            return False
        self.rebuild()
        return True

    def obstacles(self) -> list[str]:
        """Name the chains of others that drop forwarded packets by policy: what they do not allow reaches no container.

        They are nobody's to change but the host owner's; an engine that says so saves a day of searching.
        """
        with self._lock:
            listing = self._run("list chains", "look for chains that drop forwarded packets")
        return find_obstacles(listing, self._table)

    def remove_table(self) -> None:
        """Delete the table with all that is published; none there is fine."""
        with self._lock:
            self._published.clear()
            # added first, so that the deletion always finds one
            self._run(f"add table ip {self._table}\ndelete table ip {self._table}", "remove the firewall table")

    def close(self) -> None:
        """Let go of the way to the kernel; the table stays."""
        with self._lock:
            if self._nftables is not None:
                self._nftables.close()
                self._nftables = None

    def _change(self, verb: str, ports: Iterable[PublishedPort], what: str) -> None:
        try:
            self._run(_elements(self._table, verb, ports), what)
        except KernelError as error:
            # the table is gone, or an element is not as we recorded it: say the whole truth again
            if error.errno not in (errno.ENOENT, errno.EEXIST):
                raise
            self._rebuild()

    def _rebuild(self) -> None:
        rules = render(self._table, self._networks)
        elements = [_elements(self._table, "add", ports) for ports in self._published.values()]
        text = "\n".join([f"add table ip {self._table}", f"delete table ip {self._table}", rules, *elements])
        self._run(text, "build the firewall table")

    def _run(self, commands: str, what: str) -> str:
        if self._nftables is None:
            self._nftables = self._open()
        return self._nftables.run(commands, what)


def _forget(*, ports: Iterable[PublishedPort] = (), translated_to: Iterable[PublishedPort] = ()) -> None:
    numbers = frozenset(port.host_port for port in ports if port.protocol == "udp")
    addresses = frozenset(port.container_ip for port in translated_to if port.protocol == "udp")
    if numbers or addresses:
        forget_udp(numbers, addresses)


def render(table: str, networks: Mapping[str, str]) -> str:
    """Write the table without its elements, in nft's language."""
    names = ", ".join(f'"{bridge}"' for bridge in networks)
    between = "".join(f'    iifname "{bridge}" oifname "{bridge}" accept\n' for bridge in networks)
    masquerade = "".join(
        f'    ip saddr {subnet} oifname != "{bridge}" masquerade\n'
        f'    ip saddr {subnet} oifname "{bridge}" ct status dnat masquerade\n'
        for bridge, subnet in networks.items()
    )
    # no named set: what nftables 1.1 writes for one with a plain key makes every nft 1.0 that reads it crash,
    # and both may look at this table (a container of another release in the host's network namespace)
    bridges = f"{{ {names or chr(34) + table + chr(34)} }}"
    return _RULES.format(table=table, bridges=bridges, between=between, masquerade=masquerade)


def find_obstacles(listing: str, own_table: str) -> list[str]:
    """Find base chains on IPv4's forward hook with policy drop in the output of `nft list chains`."""
    found = []
    table = chain = ""
    for line in listing.splitlines():
        words = line.split()
        if len(words) == 4 and words[0] == "table":
            table = " ".join(words[1:3])
        elif len(words) == 3 and words[0] == "chain":
            chain = words[1]
        elif "hook forward " in line and "policy drop" in line:
            family, _, name = table.partition(" ")
            if family in ("ip", "inet") and name != own_table:
                found.append(f"table {table}, chain {chain}: policy drop")
    return found


def _elements(table: str, verb: str, ports: Iterable[PublishedPort]) -> str:
    lines = []
    for port in ports:
        if port.host_ip == WILDCARD:
            name, key = "everywhere", f"{port.protocol} . {port.host_port}"
        else:
            name, key = "addressed", f"{port.host_ip} . {port.protocol} . {port.host_port}"
        value = f" : {port.container_ip} . {port.container_port}" if verb == "add" else ""
        lines.append(f"{verb} element ip {table} {name} {{ {key}{value} }}")
    return "\n".join(lines)
