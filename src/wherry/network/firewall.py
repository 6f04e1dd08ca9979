"""NAT and published ports: one nftables table of our own, whose size on the packet's way does not grow.

The table (of family ip, and of ip6 where a network has IPv6; named after the data root) has a handful of rules and two
maps. A published port is one map element; adding one, and finding one, costs the same with a thousand others there.

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
- **Only what was published**: what enters a bridge from elsewhere (another network's bridge, too) must belong to a
  known connection or have been translated; a neighbour that routes to the container's address gets nothing.
- **Internal networks** have no way in or out. Where `icc` is off a table of family bridge keeps the ports apart.
- **Containers speak for themselves**: that table also drops frames with source addresses that their container was not
  given (`network.sources`). Not every kernel has such tables: without one, `warnings` says so.
- **Nobody else's rules are touched.** An `accept` here does not lift a `drop` there: where another program (ufw,
  firewalld) drops forwarded packets by policy, the host's owner has to allow the bridge in *its* rules. Only dockerd
  keeps a chain for others: what this table judges is marked, and a rule in that chain lets it pass (`docker_user`).

What a start waits for, a port's element, is one message to the kernel. Rules are written by libnftables, which reads
those of everybody first, and of which old versions crash on sets that newer ones wrote. Whenever somebody else has
changed the ruleset, a child process reads it before: then a change of ours is an error, and not the engine's end.

A UDP flow that goes on keeps the translation of its first packet, so flows that a change concerns are forgotten.

A change is one transaction. Where elements cannot be added because somebody flushed the ruleset, the whole table comes
back, in one transaction too. Established connections survive that: their translation is the connection tracker's.
"""

import errno
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from wherry.errors import KernelError
from wherry.linux.conntrack import forget_udp
from wherry.linux.nfnetlink import (
    NFPROTO_BRIDGE,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    Message,
    Transactions,
    flush_elements,
)
from wherry.linux.nftables import Nftables, RulesetWatch, list_chain_apart, name_thread, survives_reading
from wherry.network import docker_user
from wherry.network.apart import render_apart
from wherry.network.elements import messages, render_elements
from wherry.network.obstacles import find_obstacles
from wherry.network.ports import PublishedPort
from wherry.network.ruleset import ASKING_CHAINS, CHAINS, Passage, Protected, render, render_marks
from wherry.network.sources import (
    CHAIN,
    BridgePort,
    guarded,
    render_source_elements,
    render_sources,
    source_messages,
)

_FAMILIES = ("ip", "ip6")
_MARKED = {"iptables": "ip", "ip6tables": "ip6"}
_OURS = "wherry"  # how the tables of all engines begin
_UNREADABLE = (
    "this machine's libnftables cannot read the ruleset: another program wrote a named set in the format of a newer "
    "one (upgrade the package libnftables1, or remove that set: `nft list ruleset` ends the same way)"
)


class Firewall:
    """One engine's tables, and the record of what is published and who may send what.

    Its calls block for 0.1-2 ms; threads take turns. All of it is for one network namespace: that of the calling
    threads.

    Args:
        table: its name (`Roots.scope`); nobody else's may be called so.
        networks: every bridge network.
        open_nftables: gives the way to the kernel; opened at first use, in the namespace of that moment.
        asks: whether published ports obey the host's own input rules.

    Attributes:
        warnings: what this kernel cannot do, in words.
    """

    def __init__(
        self,
        table: str,
        networks: Sequence[Protected] = (),
        open_nftables: Callable[[], Nftables] = Nftables,
        *,
        asks: bool = False,
    ) -> None:
        self._table = table
        self._asks = asks
        self._networks = list(networks)
        self._passages: dict[str, tuple[Passage, ...]] = {}
        self._open = open_nftables
        self._nftables: Nftables | None = None
        self._watch: RulesetWatch | None = None
        self._readable = True
        self._transactions = Transactions()
        self._published: dict[str, tuple[PublishedPort, ...]] = {}
        self._sources: dict[str, tuple[BridgePort, ...]] = {}
        self._sources_known = False  # until then ports that live would be cut off
        self._can_guard: bool | None = None  # None: not tried
        self.warnings: list[str] = []
        self._ipv6 = False
        self._bridged = False  # the table of family bridge is there
        self._marks: set[str] = set()  # iptables commands whose DOCKER-USER has our rule
        self._lock = threading.Lock()

    def rebuild(
        self,
        published: Mapping[str, Sequence[PublishedPort]] | None = None,
        sources: Mapping[str, Sequence[BridgePort]] | None = None,
    ) -> None:
        """Put the whole table in place, replacing what was there under its name, in one transaction.

        Args:
            published: owner -> its ports, which replace the record; None keeps the record.
            sources: owner -> its places on bridges, likewise.

        Raises:
            KernelError: the kernel refused; the old table stands.
        """
        with self._lock:
            if published is not None:
                self._published = {owner: tuple(ports) for owner, ports in published.items() if ports}
            if sources is not None:
                self._sources = {owner: tuple(ports) for owner, ports in sources.items() if ports}
            self._sources_known = True
            if not self._can_guard:  # what failed may have been something else: it is tried again
                self._can_guard = None
                self.warnings.clear()
            if not self._guarded and all(network.icc for network in self._networks):
                self._forget_bridges()
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
                self._commit(list(self._port_messages(chosen, add=True)))
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
                self._commit(list(self._port_messages(ports, add=False)))
        _forget(translated_to=ports)

    def set_sources(self, owner: str, ports: Iterable[BridgePort]) -> None:
        """Let an owner's containers send from these places on bridges, and from no others; one transaction.

        To be called before there is a link: what comes from an unknown port is dropped.

        Raises:
            KernelError: the kernel refused; all is as before.
        """
        chosen = tuple(ports)
        with self._lock:
            before = self._sources.pop(owner, ())
            if chosen:
                self._sources[owner] = chosen
            names = {port.name for port in before}, {port.name for port in chosen}
            try:
                self._commit(
                    [
                        *self._source_messages([port for port in before if port.name not in names[1]], add=False),
                        *self._source_messages([port for port in chosen if port.name not in names[0]], add=True),
                    ]
                )
            except BaseException:
                self._sources.pop(owner, None)
                if before:
                    self._sources[owner] = before
                raise

    def leave(self, owner: str) -> None:
        """Take back all that an owner has here, ports and places on bridges; one transaction.

        Raises:
            KernelError: the kernel refused.
        """
        with self._lock:
            ports, places = self._published.pop(owner, ()), self._sources.pop(owner, ())
            self._commit([*self._port_messages(ports, add=False), *self._source_messages(places, add=False)])
        _forget(translated_to=ports)

    def set_networks(self, networks: Sequence[Protected]) -> None:
        """Protect these networks from now on: new rules, the elements stay; one transaction.

        Raises:
            KernelError: the kernel refused; the old rules stand.
        """
        with self._lock:
            before, self._networks = self._networks, list(networks)
            try:
                self._rewrite()
            except BaseException:
                self._networks = before
                raise

    def set_passages(self, owner: str, passages: Iterable[Passage]) -> None:
        """Let an owner's links through where containers are kept apart; none takes its old ones away.

        Raises:
            KernelError: the kernel refused.
        """
        chosen = tuple(passages)
        with self._lock:
            before = self._passages.pop(owner, ())
            if chosen:
                self._passages[owner] = chosen
            if before != chosen and any(not network.icc for network in self._networks):
                self._rewrite()

    def _rewrite(self) -> None:
        if self._ipv6 != any(network.subnet6 for network in self._networks):
            self._rebuild()
            return
        tables = ["ip", "ip6"] if self._ipv6 else ["ip"]
        chains = (*CHAINS, *ASKING_CHAINS) if self._asks else CHAINS
        flush = [f"flush chain {family} {self._table} {chain}" for family in tables for chain in chains]
        try:
            self._run(
                "\n".join([*flush, *self._rules(), *self._bridges(), *self._marking()]), "change the firewall table"
            )
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            self._rebuild()

    @property
    def _protocols(self) -> tuple[int, ...]:
        return (NFPROTO_IPV4, NFPROTO_IPV6) if self._ipv6 else (NFPROTO_IPV4,)

    def _rules(self) -> list[str]:
        passages = self._all_passages
        families = (False, True) if self._ipv6 else (False,)
        return [render(self._table, self._networks, passages, ipv6=ipv6, asks=self._asks) for ipv6 in families]

    @property
    def _all_passages(self) -> list[Passage]:
        return [one for some in self._passages.values() for one in some]

    def _marking(self) -> list[str]:
        lines = []
        for command, family in _MARKED.items():
            if command in self._marks:
                lines += _fresh(family, f"{self._table}-marks")
                mark = docker_user.MARK
                lines.append(render_marks(self._table, self._networks, mark, ipv6=family == "ip6"))
        return lines

    @property
    def _guarded(self) -> dict[str, str]:
        """The bridges whose ports are judged: see `sources.guarded`."""
        found = guarded(self._networks) if self._sources_known else {}
        if found and self._can_guard is None:
            self._try_guarding(found)
        return found if self._can_guard else {}

    def _try_guarding(self, bridges: Iterable[str]) -> None:
        """Find out whether this kernel takes the rules of sources."""
        trial = f"{self._table}-trial"
        try:
            self._run(f"{render_sources(trial, bridges)}delete table bridge {trial}", "try rules for bridges")
            self._can_guard = True
        except KernelError as error:
            self._can_guard = False
            self.warnings.append(f"containers can use each other's addresses: spoof protection does not work ({error})")

    def _bridges(self, *, fresh: bool = False) -> list[str]:
        """The table of family bridge, which kernels may lack: named only where it is needed, or was.

        Args:
            fresh: write it anew, with all elements; otherwise those that are there stay.
        """
        bridges = self._guarded
        fresh = fresh and self._sources_known
        needed = bool(bridges) or any(not network.icc for network in self._networks)
        lines = _fresh("bridge", self._table) if fresh and (needed or self._bridged) else []
        if needed or (self._bridged and not fresh):
            lines.append(render_apart(self._table, self._networks, self._all_passages))
        if bridges or (self._bridged and not fresh and self._can_guard):
            lines.append(render_sources(self._table, bridges))
        if bridges and fresh:
            places = [port for ports in self._sources.values() for port in ports if port.bridge in bridges]
            lines.append(render_source_elements(self._table, places, bridges))
        self._bridged = needed or (self._bridged and not fresh)
        return lines

    def _forget_bridges(self) -> None:
        try:
            self._run("\n".join(_fresh("bridge", self._table)), "remove the table of bridges")
        except KernelError:
            return  # a kernel without that family has none of ours either

    def reconsider(self) -> None:
        """Somebody changed the host's rules: who was admitted by the old ones is to be asked about again.

        Raises:
            KernelError: the kernel refused.
        """
        if not self._asks:
            return
        with self._lock:
            name_thread()
            self._transactions.commit([flush_elements(family, self._table, "admitted") for family in self._protocols])

    def present(self) -> bool:
        """Say whether our rules are (still) there; after somebody's `flush ruleset` they want `rebuild`."""
        with self._lock:  # a table that is being made is not missed
            if not all(self._transactions.has_rules(family, self._table, "published") for family in self._protocols):
                return False
            return not self._guarded or self._transactions.has_rules(NFPROTO_BRIDGE, self._table, CHAIN)

    def restore(self) -> bool:
        """Put the table back if somebody flushed it; says whether that was so.

        Raises:
            KernelError: the kernel refused.
        """
        if self.present():
            return False
        self.rebuild()
        return True

    def pass_docker(self) -> None:
        """Get this engine's packets past dockerd's FORWARD policy DROP, as far as that is there; blocking.

        To be called at the start and when somebody changed the host's rules.

        Raises:
            KernelError: the kernel cannot mark packets.
        """
        with self._lock:
            listing = self._run("list chains", "look for dockerd's chains")
            commands = [name for name in _MARKED if name == "iptables" or self._ipv6]
        # not under the lock: iptables may wait for its own, and a published port would wait too
        there = f"chain {docker_user.CHAIN}" in listing
        wanted = {name for name in commands if (there or docker_user.is_legacy(name)) and docker_user.admit(name)}
        with self._lock:
            missing = any(f"table {_MARKED[name]} {self._table}-marks {{" not in listing for name in wanted)
            if wanted == self._marks and not missing:
                return
            self._marks = wanted
            try:
                self._run("\n".join([*self._no_marks(), *self._marking()]), "mark what this engine forwards")
            except KernelError:
                self._marks = set()
                raise

    def _no_marks(self) -> list[str]:
        return [line for family in _FAMILIES for line in _fresh(family, f"{self._table}-marks")]

    def obstacles(self) -> list[str]:
        """Name the chains of others that let no forwarded packet through but what they allow: none reaches a container.

        They are nobody's to change but the host owner's; an engine that says so saves a day of searching.
        """
        with self._lock:
            listing = self._run("list chains", "look for chains that drop forwarded packets")
        found = find_obstacles(listing, self._table, _OURS, list_chain_apart)
        return [one for one in found if not (one == docker_user.DROPS and "iptables" in self._marks)]

    def remove_table(self) -> None:
        """Delete the table with all that is published; none there is fine."""
        with self._lock:
            self._published.clear()
            self._sources.clear()
            tables = [line for family in _FAMILIES for line in _fresh(family, self._table)]
            self._run("\n".join([*tables, *self._no_marks()]), "remove the firewall table")
            self._leave_docker()
            self._forget_bridges()

    def _leave_docker(self) -> None:
        """Take our rule out of dockerd's chains, unless another engine's packets need it."""
        self._marks = set()
        listing = self._run("list chains", "look for dockerd's chains")
        for command, family in _MARKED.items():
            others = any(
                words[:2] == ["table", family] and words[2].startswith(_OURS) and words[2].endswith("-marks")
                for words in map(str.split, listing.splitlines())
            )
            if not others and (f"chain {docker_user.CHAIN}" in listing or docker_user.is_legacy(command)):
                docker_user.withdraw(command)

    def close(self) -> None:
        """Let go of the way to the kernel; the table stays."""
        with self._lock:
            self._transactions.close()
            if self._watch is not None:
                self._watch.close()
                self._watch = None
            if self._nftables is not None:
                self._nftables.close()
                self._nftables = None

    def _port_messages(self, ports: Iterable[PublishedPort], *, add: bool) -> Iterable[Message]:
        return messages(self._table, ports, add=add, asks=self._asks)

    def _source_messages(self, ports: Iterable[BridgePort], *, add: bool) -> Iterable[Message]:
        bridges = self._guarded
        return source_messages(self._table, [port for port in ports if port.bridge in bridges], bridges, add=add)

    def _commit(self, change: Sequence[Message]) -> None:
        if not change:
            return
        name_thread()
        try:
            self._transactions.commit(change)
        except KernelError as error:
            # the table is gone, or an element is not as we recorded it: say the whole truth again
            if error.errno not in (errno.ENOENT, errno.EEXIST, errno.EBUSY):
                raise
            self._rebuild()

    def _rebuild(self) -> None:
        self._ipv6 = any(network.subnet6 for network in self._networks)
        fresh = [line for family in _FAMILIES for line in _fresh(family, self._table)]
        published = [render_elements(self._table, ports, asks=self._asks) for ports in self._published.values()]
        text = "\n".join([*fresh, *self._rules(), *self._bridges(fresh=True), *self._marking(), *published])
        self._run(text, "build the firewall table")

    def _run(self, commands: str, what: str) -> str:
        name_thread()
        if self._nftables is None:
            self._nftables = self._open()
        if self._watch is None:
            self._watch, changed = RulesetWatch(), True
        else:
            changed = self._watch.drain()
        if changed:
            self._readable = self._can_read(self._nftables)
        if not self._readable:
            raise KernelError(f"{what}: {_UNREADABLE}")
        return self._nftables.run(commands, what)

    def _can_read(self, nftables: Nftables) -> bool:
        # chains are safe to read, and tables with them; where there are no tables but ours, so is the rest
        listed = [line.split() for line in nftables.run("list chains", "look for other tables").splitlines()]
        foreign = [words[2] for words in listed if words[:1] == ["table"] and not words[2].startswith(_OURS)]
        return not foreign or survives_reading()


def _forget(*, ports: Iterable[PublishedPort] = (), translated_to: Iterable[PublishedPort] = ()) -> None:
    numbers = frozenset(port.host_port for port in ports if port.protocol == "udp")
    addresses = frozenset(port.container_ip for port in translated_to if port.protocol == "udp")
    if numbers or addresses:
        forget_udp(numbers, addresses)


def _fresh(family: str, table: str) -> list[str]:
    # added first, so that the deletion always finds one
    return [f"add table {family} {table}", f"delete table {family} {table}"]
