"""Which networks a container is to be on, as its record says it: what create asked for, and what was changed since."""

from typing import Any

from wherry.containers.model import Container, Record
from wherry.network.addressing import ipam_wish
from wherry.network.wishes import parse_wish
from wherry.wire.network_settings import endpoint_settings
from wherry.wire.networks import EndpointWish


def wishes_of(record: Record) -> dict[str, EndpointWish]:
    """The networks that a container is to be on, by the names under which it asked, its network mode first."""
    mode = record.host_config.network_mode
    asked = dict((record.networking or {}).get("EndpointsConfig") or {})
    found: dict[str, EndpointWish] = {}
    if not (record.networking or {}).get("Chosen"):
        # nothing was connected or disconnected yet: the mode is one of them, named or not
        own = asked.pop(mode, None) or asked.pop("default" if mode == "bridge" else mode, None)
        found[mode] = parse_wish(own)
        if record.config.mac_address and not found[mode].mac_address:
            found[mode].mac_address = record.config.mac_address
    for name, value in asked.items():
        found[name] = parse_wish(value)
    return found


def shown(container: Container) -> dict[str, Any]:
    """Docker's `Networks` of a container that does not run: where it will be."""
    if container.record.host_config.network_mode.startswith("container:"):
        return {}
    return {
        name: endpoint_settings(
            IPAMConfig=ipam_wish(wish),
            Links=wish.links,
            Aliases=wish.aliases,
            MacAddress=wish.mac_address,
            DriverOpts=wish.driver_opts,
            GwPriority=wish.gw_priority,
            NetworkID=wish.network_id or container.past_networks.get(name, ""),
        )
        for name, wish in wishes_of(container.record).items()
    }
