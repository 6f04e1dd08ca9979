"""Chains of other programs that let no forwarded packet through, found in the output of nft(8)."""

from collections.abc import Callable


def find_obstacles(listing: str, own_table: str, ours: str, rules: Callable[[str], str]) -> list[str]:
    """Find base chains on IPv4's forward hook whose policy is to drop, or whose last rule drops or rejects all.

    Args:
        listing: the output of `nft list chains`.
        own_table: the table that is not looked at.
        ours: how the tables of other engines begin, which are not looked at either.
        rules: gives the output of `nft list chain FAMILY TABLE CHAIN`.
    """
    found = []
    table = chain = ""
    for line in listing.splitlines():
        words = line.split()
        if len(words) == 4 and words[0] == "table":
            table = " ".join(words[1:3])
        elif len(words) == 3 and words[0] == "chain":
            chain = words[1]
        elif "hook forward " in line:
            family, _, name = table.partition(" ")
            if family not in ("ip", "inet") or name == own_table or name.startswith(ours):
                continue
            if "policy drop" in line:
                found.append(f"table {table}, chain {chain}: policy drop")
            elif (last := _last_rule(rules(f"{table} {chain}"))) in ("drop", "reject"):
                found.append(f"table {table}, chain {chain}: {last} at its end")
    return found


def _last_rule(listing: str) -> str:
    """The first word of a chain's last rule, without its counter: a verdict only if the rule has no condition."""
    lines = [line for line in listing.splitlines() if line.strip(" \t}")]
    words = lines[-1].split() if lines else []
    if words[:2] == ["counter", "packets"]:
        words = words[5:]  # counter packets N bytes N, which iptables gives every rule
    return words[0] if words else ""
