"""Bridges that keep their ports apart (`icc` false): rules of the firewall's table of family bridge, in nft's language.

Frames between two ports of a bridge pass no table of `ip` unless the host has `br_netfilter`, so they are judged in the
bridge itself, and by the port: an address is what a container says (link-local ones, another's, none at all). Not every
kernel knows the bridge's name there, so ports are known by their device group, which is the bridge's own
(`ruleset.group_of`). What comes from such a port or goes to one is dropped, whatever it is, unless `--link` lets it
through. What goes to the host, and through it to elsewhere, is not forwarded by the bridge and does not come here.
"""

from collections.abc import Iterable, Sequence

from wherry.network.ruleset import Passage, Protected, group_of, passage_rules

_CHAINS = """\
table bridge {table} {{
  chain forward {{ type filter hook forward priority 0; policy accept; }}
  chain between {{ }}
}}
flush chain bridge {table} forward
flush chain bridge {table} between
"""
_RULES = """\
table bridge {table} {{
  chain forward {{
    iifgroup {groups} jump between
    oifgroup {groups} jump between
  }}
  chain between {{
{links}    drop
  }}
}}
"""
# Neighbour discovery asks a multicast address, and asks again from a link-local one (RFC 4861): only where a link needs
# it. A router's advertisement is never let through.
_NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"


def render_apart(table: str, networks: Sequence[Protected], passages: Iterable[Passage] = ()) -> str:
    """Write the chains in the place of those that are there; empty ones where no network keeps its containers apart."""
    groups = [str(group_of(network.bridge)) for network in networks if not network.icc]
    if not groups:
        return _CHAINS.format(table=table)
    passages = list(passages)
    pairs = {pair for one in passages for pair in ((one.source, one.destination), (one.destination, one.source))}
    links = [f"arp saddr ip {one} arp daddr ip {other} accept" for one, other in sorted(pairs) if ":" not in one]
    if any(":" in one for one, _ in pairs):
        links.append(_NEIGHBOURS)
    links += [*passage_rules(passages, "ip"), *passage_rules(passages, "ip6")]
    text = "".join(f"    {rule}\n" for rule in links)
    rules = _RULES.format(table=table, groups="{ " + ", ".join(groups) + " }", links=text)
    return _CHAINS.format(table=table) + rules
