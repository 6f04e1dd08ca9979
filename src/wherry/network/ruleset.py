"""The firewall tables as text, in nft's language: one for IPv4, one for IPv6.

That of family bridge is in `network.apart` and `network.sources`; `network.firewall` says what the chains mean. The
number of rules on a packet's way does not depend on the number of networks or ports: bridges stand in sets, ports in
maps. The sets have no names: what nftables 1.1 writes for a named one with a plain key makes every nft 1.0 that reads
it crash, and both may look at this table (a container of another release in the host's network namespace).
"""

import zlib
from collections.abc import Iterable, Sequence

CHAINS = ("early", "forward", "published", "arriving", "local", "leaving")
ASKING_CHAINS = ("judged", "admit")

_TABLE = """\
table {family} {table} {{
  map addressed {{ type {type} . inet_proto . inet_service : {type} . inet_service; }}
  map everywhere {{ type inet_proto . inet_service : {type} . inet_service; }}
{asking}
  chain early {{
    type filter hook prerouting priority raw; policy accept;
{early}  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
{forward}  }}
  chain published {{
    meta l4proto {{ tcp, udp, sctp }} dnat {family} to {family} daddr . meta l4proto . th dport map @addressed
    meta l4proto {{ tcp, udp, sctp }} fib daddr type local dnat {family} to meta l4proto . th dport map @everywhere
  }}
  chain arriving {{
    type nat hook prerouting priority dstnat; policy accept;
    {arriving}jump published
  }}
  chain local {{
    type nat hook output priority -100; policy accept;
    jump published
  }}
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
{leaving}  }}
}}
"""
# With `"publish-policy": "host-firewall"`: the first packet of a source to a published port goes where it would go
# without containers, through the host's own input rules. One that passes them all is remembered, and dropped: it comes
# again (TCP after a second), and is translated then.
_ASKING = """\
  set offered {{ type inet_proto . inet_service; }}
  set offered_at {{ type {type} . inet_proto . inet_service; }}
  set admitted {{ type {type} . inet_proto . inet_service; flags dynamic, timeout; timeout 1h; size 65535; }}

  chain judged {{
    type filter hook input priority 300; policy accept;
    iifname {inner} accept
    meta l4proto {{ tcp, udp, sctp }} meta l4proto . th dport @offered jump admit
    meta l4proto {{ tcp, udp, sctp }} {family} daddr . meta l4proto . th dport @offered_at jump admit
  }}
  chain admit {{
    add @admitted {{ {family} saddr . meta l4proto . th dport }} drop
  }}
"""
_ARRIVING = (
    "iifname != {inner} meta l4proto {{ tcp, udp, sctp }} "
    "{family} saddr . meta l4proto . th dport != @admitted return\n    "
)
# what ARP is to IPv4: who may talk must be found first
_NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"

# Packets that the forward chain above judges carry a mark while they are in the hook: see `docker_user`. A packet that
# leaves through another bridge gets none: whether that bridge admits it is its owner's decision.
_MARKS = """\
table {family} {table}-marks {{
  chain marked {{
    type filter hook forward priority filter - 1; policy accept;
    oifname {every} meta mark set meta mark | {mark:#x}
    iifname {every} meta oifkind != "bridge" meta mark set meta mark | {mark:#x}
  }}
  chain unmarked {{
    type filter hook forward priority filter + 1; policy accept;
    meta mark & {mark:#x} == {mark:#x} meta mark set meta mark & {others:#x}
  }}
}}
"""


class Protected:
    """One bridge network as the firewall sees it.

    Args:
        bridge: its link.
        subnet: its IPv4 subnet.
        subnet6: its IPv6 subnet, or empty.
        internal: nothing goes out, nothing comes in.
        icc: its containers may talk to each other.
        masquerade: what goes out gets the host's address.
        spoof_protection: which containers use their own source addresses only: `off` (none has to), `on` (all without
            NET_ADMIN) or `strict` (all).
    """

    __slots__ = ("bridge", "icc", "internal", "masquerade", "spoof_protection", "subnet", "subnet6")

    def __init__(
        self,
        bridge: str,
        subnet: str,
        subnet6: str = "",
        *,
        internal: bool = False,
        icc: bool = True,
        masquerade: bool = True,
        spoof_protection: str = "off",
    ) -> None:
        self.bridge = bridge
        self.subnet = subnet
        self.subnet6 = subnet6
        self.internal = internal
        self.icc = icc
        self.masquerade = masquerade
        self.spoof_protection = spoof_protection


class Passage:
    """What `--link` lets through between two containers that are kept apart: from one address to a port of another."""

    __slots__ = ("destination", "port", "protocol", "source")

    def __init__(self, source: str, destination: str, protocol: str, port: int) -> None:
        self.source = source
        self.destination = destination
        self.protocol = protocol
        self.port = port


def group_of(bridge: str) -> int:
    """Give the device group (ip-link(8)) in which a bridge's ports are born.

    It is a number that people's own groups, which are small, do not have.
    """
    return zlib.crc32(bridge.encode()) & 0x3FFFFFFF | 0x40000000


def render(
    table: str,
    networks: Sequence[Protected],
    passages: Iterable[Passage] = (),
    *,
    ipv6: bool = False,
    asks: bool = False,
) -> str:
    """Write the table of one family without its elements; with `asks` the host's own input rules are asked."""
    family = "ip6" if ipv6 else "ip"
    names = [f'"{network.bridge}"' for network in networks]
    # a set cannot be empty: without networks a name that no link has
    every = _set(names or [f'"{table[:15]}"'])
    # most packets belong to a connection: what is asked first of each is that
    forward = ["ct state established,related accept"]
    if not ipv6:
        forward.append(f"ct original ip daddr 127.0.0.0/8 oifname {every} drop")
    forward.append(f"iifname != {every} oifname != {every} accept")
    forward += _pairs("iifname . oifname {} accept", [network for network in networks if network.icc])
    apart = [network for network in networks if not network.icc]
    if apart:
        forward += [*passage_rules(passages, family), *([_NEIGHBOURS] if ipv6 else [])]
        forward += _pairs("iifname . oifname {} drop", apart)
    internal = [f'"{network.bridge}"' for network in networks if network.internal]
    if internal:
        forward += [f"iifname {_set(internal)} drop", f"oifname {_set(internal)} drop"]
    forward += ["ct status dnat accept", f"oifname {every} drop"]
    early, leaving = [], []
    if not ipv6:
        early = [f"ip saddr 127.0.0.0/8 iifname {every} drop", f"ip daddr 127.0.0.0/8 iifname {every} drop"]
        leaving = [f"oifname {every} ip saddr 127.0.0.0/8 masquerade"]
    subnets = [(subnet, network) for network in networks if (subnet := network.subnet6 if ipv6 else network.subnet)]
    outward = [subnet for subnet, network in subnets if network.masquerade and not network.internal]
    if outward:
        leaving.append(f"{family} saddr {_set(outward)} oifname != {every} masquerade")
    if subnets:
        own = _set([f'{subnet} . "{network.bridge}"' for subnet, network in subnets])
        leaving.append(f"{family} saddr . oifname {own} ct status dnat masquerade")
    inner, kind = _set([*names, '"lo"']), "ipv6_addr" if ipv6 else "ipv4_addr"
    return _TABLE.format(
        family=family,
        table=table,
        type=kind,
        asking=_ASKING.format(type=kind, inner=inner, family=family) if asks else "",
        arriving=_ARRIVING.format(inner=inner, family=family) if asks else "",
        early=_lines(early),
        forward=_lines(forward),
        leaving=_lines(leaving),
    )


def render_marks(table: str, networks: Sequence[Protected], mark: int, *, ipv6: bool) -> str:
    """Write the table that marks what this engine's forward chain judges.

    Args:
        mark: one bit.
    """
    every = _set([f'"{network.bridge}"' for network in networks] or [f'"{table[:15]}"'])
    family, others = "ip6" if ipv6 else "ip", 0xFFFFFFFF & ~mark
    return _MARKS.format(family=family, table=table, every=every, mark=mark, others=others)


def passage_rules(passages: Iterable[Passage], family: str) -> list[str]:
    """Write the rules that let passages through, there and back, of family `ip` or `ip6`."""
    lines = []
    for one in passages:
        if (":" in one.source) == (family == "ip6"):
            there = f"{family} saddr {one.source} {family} daddr {one.destination}"
            back = f"{family} saddr {one.destination} {family} daddr {one.source}"
            lines.append(f"{there} {one.protocol} dport {one.port} accept")
            lines.append(f"{back} {one.protocol} sport {one.port} accept")
    return lines


def _pairs(rule: str, networks: Sequence[Protected]) -> list[str]:
    same = [f'"{network.bridge}" . "{network.bridge}"' for network in networks]
    return [rule.format(_set(same))] if same else []


def _set(items: Sequence[str]) -> str:
    return "{ " + ", ".join(items) + " }"


def _lines(rules: Iterable[str]) -> str:
    return "".join(f"    {rule}\n" for rule in rules)
