"""`wherry network check`: everything on the way to a container looked at, and said in words."""

import asyncio
from typing import Any

from wherry.containers.model import Container
from wherry.errors import InvalidArgument, KernelError
from wherry.network import checkup
from wherry.network.checkup import Finding
from wherry.network.firewall import Firewall
from wherry.network.ports import parse_port_key
from wherry.networking.sandboxes import AttachedSandbox


async def check(container: Container, port: str, firewall: Firewall, *, asks: bool) -> list[dict[str, Any]]:
    """Look at a container's network, and at one of its ports.

    Args:
        port: `80`, `53/udp`; empty: every published one.
        firewall: the engine's.
        asks: whether published ports obey the host's own input rules.

    Returns:
        What was found, in order: `{"ok": bool, "text": str}` each.

    Raises:
        InvalidArgument: `port` is none.
    """
    wanted = parse_port_key(port) if port else None
    if wanted is not None and wanted[1] == "sctp":
        raise InvalidArgument("who listens over sctp cannot be told")
    found = await asyncio.get_running_loop().run_in_executor(None, _look, container, wanted, firewall, asks)
    return [{"ok": one.ok, "text": one.text} for one in found]


def _look(container: Container, wanted: tuple[int, str] | None, firewall: Firewall, asks: bool) -> list[Finding]:
    mode = container.record.host_config.network_mode
    if not container.running:
        return [
            Finding(
                False, f"container {container.name} is {container.status}: start it with wherry start {container.name}"
            )
        ]
    if mode == "host":
        found = [Finding(True, "it has the host's own network: no bridge, no translation, the host's rules")]
        return [*found, *([checkup.listener(container.pid, *wanted)] if wanted else [])]
    sandbox = container.network
    if not isinstance(sandbox, AttachedSandbox):
        words = f"it has the network of {mode}: check that" if mode.startswith("container:") else "it has no network"
        return [Finding(mode != "none", words)]
    if not sandbox.endpoints:
        return [Finding(False, "it is connected to no network")]
    found = [*checkup.host(sandbox.endpoints), *checkup.inside(container.pid, sandbox.endpoints)]
    found += _rules(firewall)
    names = "are served to it at 127.0.0.11" if sandbox.embedded_dns else "are not served on the default network"
    found.append(Finding(True, f"names of containers {names}"))
    if wanted is not None:
        found += checkup.published(sandbox.ports, *wanted, asks=asks)
        found.append(checkup.listener(container.pid, *wanted))
        return found
    for one in dict.fromkeys((port.container_port, port.protocol) for port in sandbox.ports):
        found += checkup.published(sandbox.ports, *one, asks=asks)
        if one[1] != "sctp":
            found.append(checkup.listener(container.pid, *one))
    return found


def _rules(firewall: Firewall) -> list[Finding]:
    try:
        present, obstacles = firewall.present(), firewall.obstacles()
    except KernelError as error:
        return [Finding(False, f"the firewall cannot be looked at: {error}")]
    found = [Finding(present, f"the engine's firewall table is {'in place' if present else 'gone'}")]
    found += [
        Finding(False, f"another program's firewall drops what is forwarded: {chain}; allow the bridge there")
        for chain in obstacles
    ]
    return found
