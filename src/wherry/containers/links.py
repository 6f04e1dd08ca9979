"""`--link` on the default network: another container's address, under an alias, in the hosts file and the environment.

In the record a link is `<id>:<alias>`, so that it follows the other's new name. On a network of users a link is a name
that is served (`network.members`), and none of this.
"""

from collections.abc import Sequence

import msgspec

from wherry.containers.model import Container, Record
from wherry.containers.records import Registry
from wherry.errors import Conflict, ContainerNotFound, InvalidArgument, WherryError
from wherry.network.members import split_link
from wherry.network.ports import parse_port_key
from wherry.network.ruleset import Passage
from wherry.wire.containers import Config

_PRIVATE = ("HOME", "PATH")
_RUN = 3  # so many ports in a row have variables of their own


class Link:
    """A container that another one sees under an alias."""

    __slots__ = ("alias", "child")

    def __init__(self, child: Container, alias: str) -> None:
        self.child = child
        self.alias = alias

    @property
    def address(self) -> str:
        """Its address on the default network; empty where it has none."""
        network = self.child.network
        return str(network.settings()["IPAddress"]) if network is not None else ""

    @property
    def ports(self) -> list[tuple[int, str]]:
        """What it exposes or publishes, in order; of equal numbers TCP's first."""
        record = self.child.record
        keys = {*(record.config.exposed_ports or {}), *(record.host_config.port_bindings or {})}
        return sorted((parse_port_key(key) for key in keys), key=lambda port: (port[0], port[1] != "tcp", port[1]))


def settle(registry: Registry, record: Record) -> None:
    """Turn the links that a create request names into the record's form.

    Raises:
        InvalidArgument: another is not there, or has the host's network; in dockerd's words.
    """
    host = record.host_config
    if not host.links:
        return
    if host.network_mode != "bridge":
        if host.network_mode != "none":
            _hand_over(record)
        host.links = None
        return
    found = []
    for text in host.links:
        name, alias = split_link(text)
        if not name or not alias:
            raise InvalidArgument(f"bad format for links: {text}")
        try:
            child = registry.find(name)
        except ContainerNotFound as error:
            raise InvalidArgument(f"could not get container for {name}: {error}") from None
        if child.record.host_config.network_mode == "host":
            raise InvalidArgument(
                "conflicting options: host type networking can't be used with links. This would result in undefined "
                "behavior"
            )
        found.append(f"{child.id}:{alias}")
    host.links = found


def _hand_over(record: Record) -> None:
    """A user's network takes links as names that it serves to its endpoint."""
    host = record.host_config
    networking = record.networking = dict(record.networking or {})
    endpoints = networking["EndpointsConfig"] = dict(networking.get("EndpointsConfig") or {})
    own = dict(endpoints.get(host.network_mode) or {})
    own["Links"] = own.get("Links") or list(host.links or [])
    endpoints[host.network_mode] = own


def of(registry: Registry, record: Record) -> list[Link]:
    """The links of a container whose other end is there."""
    links = []
    for text in record.host_config.links or []:
        id_, _, alias = text.rpartition(":")
        try:
            links.append(Link(registry.find(id_), alias))
        except WherryError:
            continue
    return links


def shown(registry: Registry, record: Record) -> list[str] | None:
    """Docker's `HostConfig.Links`: `/child:/parent/alias`."""
    if not record.host_config.links or record.host_config.network_mode != "bridge":
        return None
    return [f"/{link.child.name}:/{record.name}/{link.alias}" for link in of(registry, record)]


def check(registry: Registry, record: Record) -> None:
    """Check at a start that every linked container runs on the default network.

    Raises:
        Conflict: one does not, in dockerd's words.
    """
    links = of(registry, record)
    if len(links) < len(record.host_config.links or []):
        raise Conflict(f"Cannot link to a container that was removed: {record.name}")
    for link in links:
        if not link.child.running:
            raise Conflict(f"Cannot link to a non running container: /{link.child.name} AS /{record.name}/{link.alias}")
        if not link.address:
            raise Conflict(f"container {link.child.id} not attached to default bridge network")


def hosts(registry: Registry, record: Record) -> list[tuple[str, str]]:
    """What links add to the hosts file: `(names, address)`."""
    lines = []
    for link in of(registry, record):
        if link.address:
            names = dict.fromkeys([link.alias, link.child.record.config.hostname, link.child.name])
            lines.append((" ".join(names), link.address))
    return lines


def with_environment(registry: Registry, record: Record) -> Config:
    """The container's configuration with what its links add to the environment; its own variables win."""
    if not record.host_config.links or record.host_config.network_mode != "bridge":
        return record.config
    added = [entry for link in of(registry, record) for entry in _environment(link, record.name)]
    return msgspec.structs.replace(record.config, env=[*added, *(record.config.env or [])])


def _environment(link: Link, parent: str) -> list[str]:
    prefix, address, ports = link.alias.upper().replace("-", "_"), link.address, link.ports
    entries = [f"{prefix}_NAME=/{parent}/{link.alias}"]
    if ports:
        entries.append(f"{prefix}_PORT={ports[0][1]}://{address}:{ports[0][0]}")
    for first, last, protocol in _runs(ports):
        key = f"{prefix}_PORT_{first}_{protocol.upper()}"
        entries += [
            f"{key}_START={protocol}://{address}:{first}",
            f"{key}_PORT_START={first}",
            f"{key}_END={protocol}://{address}:{last}",
            f"{key}_PORT_END={last}",
        ]
    for number, protocol in ports:
        key = f"{prefix}_PORT_{number}_{protocol.upper()}"
        entries += [
            f"{key}={protocol}://{address}:{number}",
            f"{key}_ADDR={address}",
            f"{key}_PORT={number}",
            f"{key}_PROTO={protocol}",
        ]
    for entry in link.child.record.config.env or []:
        name, equals, _ = entry.partition("=")
        if equals and name not in _PRIVATE:
            entries.append(f"{prefix}_ENV_{entry}")
    return entries


def _runs(ports: Sequence[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """Ports of one protocol that follow each other: `(first, last, protocol)`."""
    found = []
    for protocol in dict.fromkeys(protocol for _, protocol in ports):
        numbers = [number for number, kind in ports if kind == protocol]
        start = 0
        for index, number in enumerate(numbers):
            if index + 1 == len(numbers) or numbers[index + 1] != number + 1:
                if index - start + 1 >= _RUN:
                    found.append((numbers[start], number, protocol))
                start = index + 1
    return found


def passages(registry: Registry, record: Record, own: str) -> list[Passage]:
    """What links let through where containers of the default network are kept apart; `own` is its address there."""
    return [
        Passage(own, link.address, protocol, number)
        for link in of(registry, record)
        for number, protocol in link.ports
        if own and link.address
    ]


def remove(registry: Registry, reference: str) -> Record:
    """Take the link `parent/alias` away; returns the changed record, to be saved.

    Raises:
        ContainerNotFound: there is no such link.
        Conflict: a container is named and no link, in dockerd's words.
    """
    parent, _, alias = reference.removeprefix("/").partition("/")
    try:
        record = registry.find(parent).record
    except WherryError:
        raise ContainerNotFound(reference) from None
    if not alias:
        raise Conflict("Conflict, cannot remove the default link name of the container")
    rest = [text for text in record.host_config.links or [] if text.rpartition(":")[2] != alias]
    if len(rest) == len(record.host_config.links or []):
        raise ContainerNotFound(reference)
    record.host_config.links = rest
    return record
