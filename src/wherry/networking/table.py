"""All networks of one engine: the predefined three and those of users, by id, name and prefix."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

from wherry.config import EngineConfig
from wherry.errors import AmbiguousPrefix, Conflict, Forbidden, NetworkNotFound, WherryError
from wherry.linux.netlink import Netlink
from wherry.network import catalogue, device, macvlan
from wherry.network.addressing import Addressed, choose_pools
from wherry.network.bridge import Bridge, BridgeNetwork, exists
from wherry.network.macvlan import ChildNetwork
from wherry.network.records import PlainNetwork
from wherry.network.ruleset import Protected
from wherry.network.spec import NetworkSpec
from wherry.network.uplink import UplinkWatch
from wherry.network.uplink import find as find_uplink
from wherry.paths import Roots

log = logging.getLogger("wherry.network")

Network = BridgeNetwork | ChildNetwork | PlainNetwork


class NetworkTable:
    """The networks; blocking where it says so.

    Args:
        roots, config: this engine's.
        trash: takes the directory of a network that was removed.

    Raises:
        StoreCorrupt, NewerSchema: a record of a predefined network cannot be read, or a newer version wrote one.
    """

    def __init__(self, roots: Roots, config: EngineConfig, trash: Callable[[str], None]) -> None:
        self._roots = roots
        self._trash = trash
        self.bridge = Bridge(roots, config)
        self.plain = {name: PlainNetwork(roots, name) for name in ("host", "none")}
        self._config = config
        self._defaults = [(pool["base"], pool["size"]) for pool in config.default_address_pools]
        self._by_name: dict[str, BridgeNetwork | ChildNetwork] = {}
        self._claimed: set[str] = set()
        self._making = threading.Lock()
        for spec in catalogue.load(roots):
            if spec.name in self._by_name:
                log.error("two networks are called %s; %s is left as it is", spec.name, spec.id[:12])
                continue
            self._by_name[spec.name] = self._build(spec)

    def _build(self, spec: NetworkSpec) -> BridgeNetwork | ChildNetwork:
        if spec.driver != "bridge":
            return ChildNetwork(spec)
        return BridgeNetwork(spec, forwards=self._config.ip_forward)

    def __iter__(self) -> Iterator[Network]:
        return iter([self.bridge, *self.plain.values(), *self._by_name.values()])

    @property
    def addressed(self) -> list[BridgeNetwork | ChildNetwork]:
        """Those that give addresses."""
        return [self.bridge, *self._by_name.values()]

    @property
    def protected(self) -> list[Protected]:
        """The bridges, as the firewall sees them."""
        return [
            Protected(
                network.link_name,
                network.subnet,
                network.subnet6,
                internal=network.spec.internal,
                icc=network.spec.icc,
                masquerade=network.spec.masquerade,
                spoof_protection=network.spec.spoof_protection or self._config.spoof_protection or "on",
            )
            for network in self.addressed
            if isinstance(network, BridgeNetwork)
        ]

    def set_up(self) -> None:
        """Make every bridge; blocking. Of users' networks one that cannot be made is said in the log."""
        self.bridge.ensure()
        for network in self._by_name.values():
            try:
                network.ensure()
            except WherryError as error:
                log.error("network %s: %s", network.name, error)

    def follow(self, watch: UplinkWatch) -> None:
        """Have the bridges' containers take the MTU of the uplink, as it is now; blocking.

        Args:
            watch: is told which link that is.
        """
        with Netlink() as netlink:
            found = find_uplink(netlink)
        watch.index = found.index
        for network in self.addressed:
            if isinstance(network, BridgeNetwork):
                network.follow(found.mtu)

    def find(self, reference: str) -> Network:
        """Find a network by name, id, or unambiguous id prefix, in that order.

        Raises:
            NetworkNotFound, AmbiguousPrefix: in dockerd's words.
        """
        for network in self:
            if reference in (network.id, network.name):
                return network
        matches = [network for network in self if reference and network.id.startswith(reference)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise AmbiguousPrefix(
                f"network {reference} is ambiguous ({len(matches)} matches found based on ID prefix)",
                matches=len(matches),
            )
        raise NetworkNotFound(f"network {reference} not found")

    def addressed_by(self, reference: str) -> BridgeNetwork | ChildNetwork:
        """Find one that gives addresses; `default` is the default bridge.

        Raises:
            NetworkNotFound: there is none of that name.
            Conflict: it is `host` or `none`.
        """
        network = self.bridge if reference in ("default", "bridge") else self.find(reference)
        if isinstance(network, PlainNetwork):
            raise Conflict(f"network {network.name} gives no addresses")
        return network

    def claim(self, name: str) -> None:
        """Take a new network's name, before anything is made of it.

        Raises:
            Conflict: in Docker's words.
        """
        if name in self._claimed or any(network.name == name for network in self):
            raise Conflict(f"network with name {name} already exists")
        self._claimed.add(name)

    def make(self, spec: NetworkSpec) -> BridgeNetwork | ChildNetwork:
        """Choose, write down and make a network whose name is claimed; blocking.

        It is written down before it is made: a crash leaves it whole.

        Raises:
            Forbidden: its subnet or bridge is another's.
            KernelError: its bridge cannot be made.
            WherryError: no subnet is free.
        """
        if spec.driver != "bridge":
            macvlan.check_options(spec)
        with self._making:
            if spec.driver == "bridge":
                _check_link(spec, self.addressed)
            with Netlink() as netlink, device.one_chooser():
                subnets = [pool.subnet for network in self.addressed for pool in network.spec.chosen]
                choose_pools(spec, device.in_use(netlink), subnets, self._roots.data, self._defaults)
                network = self._build(spec)
                catalogue.save(self._roots, spec)
                try:
                    network.ensure()
                except BaseException:
                    self._take_away(network)
                    raise
            self._by_name[spec.name] = network
        return network

    def unclaim(self, name: str) -> None:
        """Give a claimed name back, or over to the network that was made."""
        self._claimed.discard(name)

    def withdraw(self, network: Network) -> BridgeNetwork | ChildNetwork:
        """Take a user's network out of the table, so that nobody comes onto it any more.

        Raises:
            Forbidden: it is predefined, or containers are on it; in Docker's words.
        """
        if isinstance(network, PlainNetwork) or network is self.bridge:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        if network.endpoints:
            raise Forbidden(
                f"error while removing network: network {network.name} id {network.id} has active endpoints"
            )
        del self._by_name[network.name]
        return network

    def destroy(self, network: BridgeNetwork | ChildNetwork) -> None:
        """Remove a network that was withdrawn; blocking. Where that fails it is in the table again.

        Raises:
            KernelError: its bridge does not go.
        """
        try:
            self._take_away(network)
        except BaseException:
            self._by_name.setdefault(network.name, network)
            raise

    def _take_away(self, network: BridgeNetwork | ChildNetwork) -> None:
        # the bridge first: a record without a bridge is a network that the next start makes whole
        network.remove()
        catalogue.forget(self._roots, network.spec, self._trash)

    def tear_down(self) -> None:
        """Delete every bridge; the networks stay on record. Blocking."""
        for network in self.addressed:
            try:
                network.remove()
            except WherryError as error:
                log.warning("%s", error)

    def sweep(self) -> None:
        """Remove links that nobody owns; blocking, after adoption."""
        for network in self.addressed:
            try:
                network.sweep()
            except WherryError as error:
                log.warning("network %s: %s", network.name, error)


def _check_link(spec: NetworkSpec, others: Sequence[Addressed]) -> None:
    for network in others:
        if isinstance(network, BridgeNetwork) and network.link_name == spec.link_name:
            raise Forbidden(
                f"cannot create network {spec.id} ({spec.link_name}): conflicts with network {network.id} "
                f"({network.link_name}): networks have same bridge name"
            )
    # dockerd takes over a bridge that is there: ours would have its addresses replaced, and be deleted with the network
    if exists(spec.link_name):
        raise Forbidden(f"cannot create network {spec.id}: an interface {spec.link_name} exists already")
