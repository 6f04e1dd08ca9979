"""The chain that dockerd keeps for its host's owner, DOCKER-USER, and the rule of ours in it.

If IP forwarding is off when dockerd starts, it sets the policy of FORWARD to DROP, and an `accept` in a table of ours
does not lift that. dockerd's documentation offers DOCKER-USER to whoever wants further packets to pass. One rule there
accepts packets with a mark that `network.firewall` sets; dockerd's own bridges stay as closed as they are.
"""

import os
import shutil
import subprocess

MARK = 0x2000000
"""Of a packet that this engine's rules judge, while it is in the forward hook. One bit, the same for every engine."""
CHAIN = "DOCKER-USER"
DROPS = "table ip filter, chain FORWARD: policy drop"
"""How `firewall.find_obstacles` names what this gets past."""
_RULE = ("-m", "mark", "--mark", f"{MARK:#x}/{MARK:#x}", "-j", "ACCEPT")
_SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_SECONDS = 10
_LEGACY_NAMES = {"iptables": "/proc/net/ip_tables_names", "ip6tables": "/proc/net/ip6_tables_names"}


def is_legacy(command: str) -> bool:
    """Tell whether the kernel has a filter table of the older kind, which nftables does not list."""
    try:
        with open(_LEGACY_NAMES[command], encoding="ascii") as file:
            return "filter" in file.read().split()
    except OSError:
        return False


def admit(command: str) -> bool:
    """Have the rule in the chain, if dockerd's FORWARD policy makes it necessary; blocking, some milliseconds.

    Args:
        command: `iptables` or `ip6tables`.

    Returns:
        Whether marked packets pass thanks to it.
    """
    rules = _run(command, "-S").splitlines()
    if f"-N {CHAIN}" not in rules or "-P FORWARD DROP" not in rules:
        return False
    if f"-A {CHAIN} {' '.join(_RULE)}" not in rules:
        _run(command, "-I", CHAIN, *_RULE)
        rules = _run(command, "-S").splitlines()
    return f"-A {CHAIN} {' '.join(_RULE)}" in rules


def withdraw(command: str) -> None:
    """Take the rule out of the chain; none there is fine."""
    if f"-A {CHAIN} {' '.join(_RULE)}" in _run(command, "-S", CHAIN).splitlines():
        _run(command, "-D", CHAIN, *_RULE)


def _run(command: str, *words: str) -> str:
    """Run iptables, which waits for whoever holds its lock; returns its output, empty where it failed."""
    program = shutil.which(command, path=_SEARCH)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "-w", "5", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
