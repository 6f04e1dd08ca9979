"""Address pools and the choice of a subnet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import Forbidden, InvalidArgument, WherryError
from wherry.network.ipam import Pool, choose_subnet, choose_subnet6, derive_mac, overlaps


def test_addresses_are_given_as_docker_does() -> None:
    """The first container gets .2, and what was given back is given first again."""
    pool = Pool("172.17.0.0/16")
    assert pool.gateway == "172.17.0.1" and pool.prefix_length == 16
    assert [pool.allocate(name) for name in "abc"] == ["172.17.0.2", "172.17.0.3", "172.17.0.4"]
    pool.release("172.17.0.3", "b")
    pool.release("172.17.0.2", "a")
    assert [pool.allocate(name) for name in "def"] == ["172.17.0.2", "172.17.0.3", "172.17.0.5"]


def test_only_the_owner_gives_back() -> None:
    """An address given back by somebody else, or twice, stays where it is."""
    pool = Pool("10.0.0.0/24")
    address = pool.allocate("a")
    pool.release(address, "b")
    assert pool.owner(address) == "a"
    pool.release(address, "a")
    pool.release(address, "a")
    assert [pool.allocate("c"), pool.allocate("d")] == ["10.0.0.2", "10.0.0.3"]


def test_a_pool_ends() -> None:
    """Network, broadcast and gateway are never given; an empty pool is Docker's error."""
    pool = Pool("10.0.0.0/29", "10.0.0.6")
    assert [pool.allocate("x") for _ in range(5)] == [f"10.0.0.{n}" for n in (1, 2, 3, 4, 5)]
    with pytest.raises(WherryError, match="no available IPv4 addresses on this network's address pools"):
        pool.allocate("x")


def test_reservations_are_exclusive() -> None:
    """A live container's address is taken over once, and is not given to another."""
    pool = Pool("10.0.0.0/24")
    pool.reserve("10.0.0.2", "a")
    pool.reserve("10.0.0.2", "a")
    with pytest.raises(Forbidden, match="Address already in use"):
        pool.reserve("10.0.0.2", "b")
    with pytest.raises(Forbidden):
        pool.reserve("10.0.0.1", "a")
    assert pool.allocate("b") == "10.0.0.3"
    for wrong in ("10.0.0.0", "10.0.0.255", "10.0.1.2", "nonsense", "fd00::2"):
        with pytest.raises(InvalidArgument):
            pool.reserve(wrong, "c")


def test_impossible_pools_are_refused() -> None:
    """A subnet with host bits, or a gateway outside of it, is the caller's error."""
    for subnet, gateway in (("10.0.0.1/24", None), ("x", None), ("10.0.0.0/24", "10.0.1.1"), ("10.0.0.0/24", "x")):
        with pytest.raises(InvalidArgument):
            Pool(subnet, gateway)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12))))
def test_no_address_has_two_owners(steps: list[tuple[bool, int]]) -> None:
    """However containers come and go, each has an address of its own, the lowest that is free."""
    pool = Pool("10.0.0.0/28")
    held: dict[int, str] = {}
    for come, who in steps:
        if come and who not in held:
            address = pool.allocate(str(who))
            assert address not in held.values()
            free = {f"10.0.0.{n}" for n in range(2, 15)} - set(held.values())
            assert address == min(free, key=lambda text: int(text.rsplit(".", 1)[1]))
            held[who] = address
        elif not come and who in held:
            pool.release(held.pop(who), str(who))


def test_the_first_free_default_is_chosen() -> None:
    """Docker's pools in its order, those that overlap an address, a route or a name server left out."""
    assert choose_subnet([]) == "172.17.0.0/16"
    assert choose_subnet(["fe80::1/64", "172.17.5.1/24", "172.18.0.53"]) == "172.19.0.0/16"
    assert choose_subnet(["172.16.0.0/12"]) == "192.168.0.0/20"
    assert choose_subnet(["172.16.0.0/12", "192.168.1.7/24"]) == "192.168.16.0/20"
    with pytest.raises(WherryError, match="non-overlapping"):
        choose_subnet(["172.16.0.0/12", "192.168.0.0/16"])
    assert overlaps("10.0.0.0/24", ["10.0.0.9"]) and not overlaps("10.0.0.0/24", ["10.0.1.0/24", "::1/128"])


def test_the_mac_follows_the_address() -> None:
    """172.17.0.2 is 02:42:ac:11:00:02, as with Docker."""
    assert derive_mac("172.17.0.2") == "02:42:ac:11:00:02"


def test_a_range_and_reserved_addresses() -> None:
    """Addresses are given from the range only; any of the subnet may be asked for; reserved ones are nobody's."""
    pool = Pool("10.0.0.0/24", "10.0.0.254", "10.0.0.128/30", ["10.0.0.129"])
    assert [pool.allocate("a") for _ in range(3)] == ["10.0.0.128", "10.0.0.130", "10.0.0.131"]
    with pytest.raises(WherryError, match="no available IPv4"):
        pool.allocate("a")
    pool.reserve("10.0.0.9", "b")
    for taken in ("10.0.0.129", "10.0.0.254"):
        with pytest.raises(Forbidden):
            pool.reserve(taken, "b")
    pool.release("10.0.0.9", "b")
    pool.release("10.0.0.130", "a")
    assert pool.allocate("c") == "10.0.0.130"


def test_ipv6_pools() -> None:
    """An IPv6 pool gives and takes as an IPv4 one, and its size does not matter."""
    pool = Pool("fd00:5::/64")
    assert pool.gateway == "fd00:5::1"
    assert [pool.allocate("a"), pool.allocate("b")] == ["fd00:5::2", "fd00:5::3"]
    pool.reserve("fd00:5::ffff:ffff:ffff:ffff", "c")
    with pytest.raises(InvalidArgument):
        pool.reserve("10.0.0.2", "c")


def test_unique_local_subnets() -> None:
    """Without a subnet an IPv6 network gets one of RFC 4193: the same for one site, not taken, another elsewhere."""
    first = choose_subnet6([], "here")
    assert first.startswith("fd") and first.endswith("/64")
    assert choose_subnet6(["10.0.0.0/8"], "here") == first != choose_subnet6([], "there")
    assert not overlaps(choose_subnet6([first], "here"), [first, "0.0.0.0/0"])
