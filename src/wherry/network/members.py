"""Who is on a network, as the name service and the load balancer need to know it."""

from wherry.network.endpoint import Endpoint


class Member:
    """One live container on one network.

    Attributes:
        names: by which the others find it, without duplicates: its name, aliases, short id, host name.
        links: alias -> container, of `--link`: only this container sees these names.
        internal: nothing outside is to be asked for it.
        default_bridge: Docker serves no names there.
    """

    __slots__ = (
        "address",
        "address6",
        "container_id",
        "container_name",
        "default_bridge",
        "endpoint_id",
        "internal",
        "links",
        "mac",
        "names",
        "network",
        "network_id",
    )

    def __init__(self, endpoint: Endpoint, container_name: str) -> None:
        self.container_id = endpoint.container_id
        self.container_name = container_name
        self.endpoint_id = endpoint.id
        self.network_id = endpoint.network_id
        self.network = endpoint.network
        self.internal = endpoint.internal
        self.default_bridge = endpoint.default_bridge
        self.names = list(dict.fromkeys([container_name, *endpoint.dns_names]))
        self.address = endpoint.address
        self.address6 = endpoint.address6
        self.mac = endpoint.mac
        self.links = dict(split_link(text)[::-1] for text in endpoint.links or [])


def split_link(text: str) -> tuple[str, str]:
    """Take `--link`'s `name:alias` (or `name`) apart: the container, and what it is called."""
    name, _, alias = text.rpartition(":") if ":" in text else (text, "", "")
    name = name.removeprefix("/")
    return name, (alias or name).rpartition("/")[2]
