"""The elements of published ports as messages to the kernel: what nft(8) reads there is what its language would say."""

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from wherry.errors import KernelError
from wherry.linux import netns
from wherry.linux.nfnetlink import NFPROTO_IPV4, Transactions, commit, flush_elements
from wherry.linux.nftables import Nftables
from wherry.network import docker_user
from wherry.network import firewall as firewalls
from wherry.network.elements import messages
from wherry.network.firewall import Firewall
from wherry.network.ports import PublishedPort
from wherry.network.ruleset import Passage, Protected, group_of
from wherry.network.sources import BridgePort

pytestmark = pytest.mark.root

T = TypeVar("T")
TABLE = "wherry-elements"
NETWORK = Protected("br-elements", "10.9.0.0/24", "fd00:9::/64")
KINDS = [
    PublishedPort("tcp", "0.0.0.0", 8080, "10.9.0.2", 80),
    PublishedPort("udp", "0.0.0.0", 8080, "10.9.0.2", 53),
    PublishedPort("sctp", "0.0.0.0", 65535, "10.9.0.3", 1),
    PublishedPort("tcp", "127.0.0.1", 8080, "10.9.0.4", 443),
    PublishedPort("udp", "192.0.2.1", 1, "10.9.0.4", 65535),
    PublishedPort("tcp", "::", 8080, "fd00:9::2", 80),
    PublishedPort("udp", "2001:db8::1", 8081, "fd00:9::3", 53),
]


@pytest.fixture(params=["bypass", "host-firewall"])
def firewall(request: pytest.FixtureRequest) -> Iterator[Firewall]:
    """A table in a namespace of the test's; `at` runs there."""
    made = Firewall(TABLE, [NETWORK], asks=request.param == "host-firewall")
    there = netns.create()
    made.at = lambda action: netns.inside(there, action)  # type: ignore[attr-defined]
    try:
        at(made, made.rebuild)
        yield made
    finally:
        made.close()
        os.close(there)


def at(firewall: Firewall, action: Callable[[], T]) -> T:
    """Do something in the table's namespace."""
    done: T = firewall.at(action)  # type: ignore[attr-defined]
    return done


def _listed(firewall: Firewall) -> str:
    """What nft reads of the table, its elements in order."""

    def read() -> str:
        return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout

    return "\n".join(sorted(word.strip("\t,{} ") for word in at(firewall, read).replace(",", "\n").splitlines()))


def test_every_kind_of_port(firewall: Firewall) -> None:
    """Each protocol, family and kind of address is there as in the language; withdrawn, nothing of it is left."""
    empty = _listed(firewall)
    at(firewall, lambda: firewall.publish("one", KINDS))
    by_message = _listed(firewall)
    assert "tcp . 8080 : 10.9.0.2 . 80" in by_message and "2001:db8::1 . udp . 8081 : fd00:9::3 . 53" in by_message
    at(firewall, firewall.rebuild)
    assert _listed(firewall) == by_message
    at(firewall, lambda: firewall.unpublish("one"))
    assert _listed(firewall) == empty


def test_more_ports_than_a_message_takes(firewall: Firewall) -> None:
    """Thousands are one transaction as well."""
    ports = [PublishedPort("tcp", "0.0.0.0", 10_000 + number, "10.9.0.2", 80) for number in range(8000)]
    empty = _listed(firewall)
    at(firewall, lambda: firewall.publish("many", ports))
    assert _listed(firewall).count(": 10.9.0.2 . 80") == 8000
    at(firewall, lambda: firewall.unpublish("many"))
    assert _listed(firewall) == empty


def test_all_or_nothing(firewall: Firewall) -> None:
    """Where one element is refused none is there: it leads elsewhere already, or is not there to be deleted."""
    at(firewall, lambda: firewall.publish("one", KINDS[:1]))
    before = _listed(firewall)
    elsewhere = PublishedPort("tcp", "0.0.0.0", 8080, "10.9.0.9", 80)
    there, missing = (errno.EEXIST, errno.EBUSY), (errno.ENOENT,)
    for ports, add, numbers in (([KINDS[3], elsewhere], True, there), ([KINDS[0], KINDS[4]], False, missing)):
        change = list(messages(TABLE, ports, add=add))
        with pytest.raises(KernelError) as refused:
            at(firewall, lambda change=change: commit(change))  # type: ignore[misc]
        assert refused.value.errno in numbers
        assert _listed(firewall) == before


def test_no_change_closes_its_socket(firewall: Firewall) -> None:
    """The kernel lets who closes one after a deletion wait for all packets on their way: 10 ms of each `rm`."""

    def change() -> set[str]:
        at(firewall, lambda: firewall.publish("one", KINDS[:1]))
        at(firewall, lambda: firewall.unpublish("one"))
        assert at(firewall, firewall.present)
        links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return {where for link in links if (where := os.readlink(link)).startswith("socket:")}

    sockets = change()
    assert change() == sockets
    with pytest.raises(KernelError):  # what was refused leaves nothing in it for the next one
        at(firewall, lambda: firewall._transactions.commit(list(messages(TABLE, KINDS[:2], add=False))))
    assert len(change()) == len(sockets)


def _written(firewall: Firewall) -> str:
    """The table with its rules' handles: a rule that is written again has another one."""

    def read() -> str:
        return subprocess.run(["nft", "-a", "list", "ruleset"], check=True, capture_output=True, text=True).stdout

    return at(firewall, read)


def test_links_write_rules_only_where_they_say_something_new(firewall: Firewall) -> None:
    """Where no network keeps its containers apart a link writes nothing; where one does, only a link that differs."""
    passage = Passage("10.9.0.2", "10.9.0.3", "tcp", 80)
    before = _written(firewall)
    at(firewall, lambda: firewall.set_passages("one", [passage]))
    assert _written(firewall) == before
    at(firewall, lambda: firewall.set_networks([Protected(NETWORK.bridge, NETWORK.subnet, NETWORK.subnet6, icc=False)]))
    apart = _written(firewall)
    assert apart != before and "10.9.0.3" in apart
    at(firewall, lambda: firewall.set_passages("one", [passage]))
    assert _written(firewall) == apart
    at(firewall, lambda: firewall.set_passages("one", []))
    assert "10.9.0.3" not in _written(firewall)


def test_what_is_not_as_recorded_is_put_right(firewall: Firewall) -> None:
    """An element that somebody changed, or took away, is as we say after our next change."""
    at(firewall, lambda: firewall.publish("one", KINDS[:2]))
    before = _listed(firewall)
    at(firewall, lambda: commit([flush_elements(NFPROTO_IPV4, TABLE, "everywhere")]))
    at(firewall, lambda: commit(list(messages(TABLE, [PublishedPort("sctp", "0.0.0.0", 9, "10.9.0.9", 9)], add=True))))
    at(firewall, lambda: firewall.publish("two", KINDS[3:4]))
    at(firewall, lambda: firewall.unpublish("two"))
    assert _listed(firewall) != before
    at(firewall, lambda: firewall.unpublish("one"))
    at(firewall, lambda: firewall.publish("one", KINDS[:2]))
    assert _listed(firewall) == before


def test_places_on_bridges(firewall: Firewall) -> None:
    """By message they are there as in the language; a change adds and deletes what differs; at the end nothing is left.

    Networks that come and go change rules, and no element.
    """
    near = Protected("br-near", "10.8.0.0/24", "fd00:8::/64", spoof_protection="on")
    strict = Protected("br-strict", "10.7.0.0/24", icc=False, spoof_protection="strict")
    networks = [NETWORK, near, strict]
    at(firewall, lambda: firewall.set_networks(networks))
    empty = _listed(firewall)
    places = [
        BridgePort("veth0123456789", "br-near", "02:42:0a:08:00:02", ["10.8.0.2", "fd00:8::2"], administers=False),
        BridgePort("veth1123456789", "br-near", "02:42:0a:08:00:03", ["10.8.0.3"], administers=True),
        BridgePort("veth2123456789", "br-strict", "02:42:0a:07:00:03", ["10.7.0.3"], administers=True),
        BridgePort("veth3123456789", NETWORK.bridge, "02:42:0a:09:00:03", ["10.9.0.3"], administers=False),
    ]
    at(firewall, lambda: firewall.set_sources("one", places))
    by_message = _listed(firewall)
    assert '"veth0123456789" . 02:42:0a:08:00:02 . fd00:8::2' in by_message
    assert '"veth0123456789" . 02:42:0a:08:00:02 . 0xfe80000000000000 . 0x420afffe080002' in by_message
    assert f'"veth1123456789" . {group_of("br-near")}' in by_message and "10.8.0.3" not in by_message
    assert '"veth2123456789" . 02:42:0a:07:00:03 . 10.7.0.3' in by_message
    assert "veth3" not in by_message
    at(firewall, firewall.rebuild)
    assert _listed(firewall) == by_message
    more = Protected("br-more", "10.6.0.0/24", spoof_protection="on")
    at(firewall, lambda: firewall.set_networks([*networks, more]))
    assert str(group_of("br-more")) in _listed(firewall)
    at(firewall, lambda: firewall.set_networks(networks))
    assert _listed(firewall) == by_message
    at(firewall, lambda: firewall.publish("one", KINDS))
    at(firewall, lambda: firewall.set_sources("one", places[1:]))
    assert "veth0123456789" not in _listed(firewall) and "veth1123456789" in _listed(firewall)
    at(firewall, lambda: firewall.leave("one"))
    assert _listed(firewall) == empty


def test_ports_that_live_are_not_cut_off_before_they_are_known(firewall: Firewall) -> None:
    """An engine that starts makes its networks first: rules and elements of the one before stay meanwhile."""
    near = Protected("br-near", "10.8.0.0/24", spoof_protection="on")
    place = BridgePort("veth0123456789", "br-near", "02:42:0a:08:00:02", ["10.8.0.2"], administers=False)
    at(firewall, lambda: firewall.set_networks([near]))
    at(firewall, lambda: firewall.set_sources("one", [place]))
    before = _listed(firewall)
    apart = Protected("br-apart", "10.7.0.0/24", icc=False, spoof_protection="on")
    for networks in ([near], [near, apart]):
        later = Firewall(TABLE, asks=firewall._asks)
        try:
            at(firewall, lambda later=later, networks=networks: later.set_networks(networks))  # type: ignore[misc]
            assert "10.8.0.2" in _listed(firewall) and str(group_of("br-near")) in _listed(firewall)
        finally:
            later.close()
    assert str(group_of("br-apart")) in _listed(firewall)
    at(firewall, lambda: firewall.rebuild({}, {"one": [place]}))
    assert _listed(firewall) == before


def test_a_kernel_without_tables_of_bridges(firewall: Firewall) -> None:
    """Everything else works, and a warning says what does not."""

    class Old(Nftables):
        def run(self, commands: str, what: str) -> str:
            if "table bridge" in commands:
                raise KernelError(f"{what}: nftables: Address family not supported by protocol")
            return super().run(commands, what)

    near = Protected("br-near", "10.8.0.0/24", spoof_protection="on")
    place = BridgePort("veth0123456789", "br-near", "02:42:0a:08:00:02", ["10.8.0.2"], administers=False)
    old = Firewall("wherry-old", [near], Old)
    try:
        at(firewall, lambda: old.rebuild({"one": KINDS[:1]}, {"one": [place]}))
        at(firewall, lambda: old.set_sources("two", [place]))
        at(firewall, lambda: old.set_networks([near, NETWORK]))
        assert at(firewall, old.present)
        listed = _listed(firewall)
        assert "tcp . 8080 : 10.9.0.2 . 80" in listed and "veth0123456789" not in listed
        (warning,) = old.warnings
        assert warning.startswith("containers can use each other's addresses: spoof protection does not work (")
        assert "Address family not supported" in warning
        at(firewall, lambda: old.leave("one"))
    finally:
        old.close()


def test_rules_that_were_flushed_are_missed(firewall: Firewall) -> None:
    """Not only a deleted table is seen to be gone: chains without rules, and a family alone, too."""
    whole = _listed(firewall)
    transactions = Transactions()
    assert at(firewall, lambda: transactions.has_rules(NFPROTO_IPV4, TABLE, "forward"))
    transactions.close()
    for command in (f"flush table ip {TABLE}", f"delete table ip6 {TABLE}", "flush ruleset"):
        at(firewall, lambda command=command: subprocess.run(["nft", command], check=True))  # type: ignore[misc]
        assert not at(firewall, firewall.present)
        assert at(firewall, firewall.restore)
        assert _listed(firewall) == whole


@pytest.mark.parametrize("look", ["pass_docker", "obstacles"])
def test_a_port_is_published_while_other_firewalls_are_looked_at(
    firewall: Firewall, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at others' chains runs programs that may wait for iptables' lock; publishing a port does not wait."""
    published = []

    def waits(*_: object) -> list[str]:
        thread = threading.Thread(target=at, args=(firewall, lambda: firewall.publish("one", KINDS)), daemon=True)
        thread.start()
        thread.join(20)
        published.append(not thread.is_alive())
        return []

    monkeypatch.setattr(docker_user, "is_legacy", lambda _command: True)
    monkeypatch.setattr(docker_user, "admit", waits)
    monkeypatch.setattr(firewalls, "find_obstacles", waits)
    at(firewall, getattr(firewall, look))
    assert published and all(published)
