"""What a request to create a network, or to connect to one, may say; each refusal in Docker's words."""

import re
import shutil
from pathlib import Path

import pytest

from wherry.errors import Forbidden, InvalidArgument, NewerSchema, NotFound, NotSupported, WherryError
from wherry.network import catalogue
from wherry.network.addressing import choose_pools
from wherry.network.spec import parse_create
from wherry.network.wishes import check, parse_wish
from wherry.paths import Roots
from wherry.wire.decode import decode
from wherry.wire.networks import IpamPool, NetworkCreate

SUBNET = '"Subnet":"10.5.1.0/24"'


def _spec(body: str) -> object:
    request = decode(body.encode(), NetworkCreate)
    assert request is not None
    return parse_create(request)


def _pool(text: str) -> str:
    return '{"Name":"w","IPAM":{"Config":[{' + text + "}]}}"


REFUSED: list[tuple[str, type[WherryError], str]] = [
    ("{}", InvalidArgument, "invalid name: "),
    ('{"Name":" "}', InvalidArgument, "invalid name: "),
    ('{"Name":"a\\u0007"}', InvalidArgument, "invalid name: a"),
    ('{"Name":"container:x"}', InvalidArgument, "invalid name: container:x"),
    ('{"Name":"bridge"}', Forbidden, "operation is not permitted on predefined bridge network "),
    ('{"Name":"w","Driver":"nope"}', NotFound, 'plugin "nope" not found'),
    ('{"Name":"w","Driver":"host"}', Forbidden, 'only one instance of "host" network is allowed'),
    ('{"Name":"w","Driver":"null"}', Forbidden, 'only one instance of "null" network is allowed'),
    ('{"Name":"w","Driver":"overlay"}', Forbidden, "This node is not a swarm manager"),
    ('{"Name":"w","Ingress":true}', Forbidden, "Ingress network can only be global scope network"),
    ('{"Name":"w","Scope":"swarm"}', WherryError, "cannot create a swarm scoped network when swarm is not active"),
    ('{"Name":"w","ConfigOnly":true}', NotSupported, "configuration-only networks"),
    ('{"Name":"w","EnableIPv4":false}', NotSupported, "without IPv4"),
    ('{"Name":"w","IPAM":{"Driver":"foo"}}', NotFound, 'plugin "foo" not found'),
    (_pool('"Subnet":"x"'), InvalidArgument, "invalid subnet x: invalid CIDR block notation"),
    (_pool('"Subnet":"10.5.0.0/33"'), InvalidArgument, "invalid subnet 10.5.0.0/33: invalid CIDR block notation"),
    (_pool('"Subnet":"10.5.0.5/24"'), InvalidArgument, "invalid subnet 10.5.0.5/24: it should be 10.5.0.0/24"),
    (_pool('"Gateway":"10.0.0.1"'), InvalidArgument, "invalid subnet : invalid CIDR block notation"),
    (_pool('"Subnet":"0.0.0.0/0"'), InvalidArgument, "no containers can live there"),
    (_pool('"Subnet":"127.0.0.0/24"'), InvalidArgument, "no containers can live there"),
    (_pool(f'{SUBNET},"IPRange":"x"'), InvalidArgument, "invalid ip-range x: invalid CIDR block notation"),
    (_pool(f'{SUBNET},"IPRange":"10.6.0.0/28"'), InvalidArgument, "parent subnet 10.5.1.0/24 doesn't contain ip-range"),
    (_pool(f'{SUBNET},"IPRange":"10.5.0.0/16"'), InvalidArgument, "CIDR block is bigger than its parent subnet"),
    (_pool(f'{SUBNET},"IPRange":"10.5.1.5/28"'), InvalidArgument, "it should be 10.5.1.0/28"),
    (_pool(f'{SUBNET},"IPRange":"fd00::/64"'), InvalidArgument, "parent subnet is an IPv4 block"),
    (_pool(f'{SUBNET},"Gateway":"x"'), InvalidArgument, "invalid gateway x: invalid address"),
    (_pool(f'{SUBNET},"Gateway":"10.6.0.1"'), InvalidArgument, "doesn't contain this address"),
    (_pool(f'{SUBNET},"Gateway":"fd00::1"'), InvalidArgument, "parent subnet is an IPv4 block"),
    (
        _pool(f'{SUBNET},"Gateway":"10.5.1.0"'),
        Forbidden,
        "failed to allocate gateway (10.5.1.0): Address already in use",
    ),
    (
        _pool(f'{SUBNET},"AuxiliaryAddresses":{{"a":"x"}}'),
        InvalidArgument,
        "invalid auxiliary address a: invalid address",
    ),
    (_pool(f'{SUBNET},"AuxiliaryAddresses":{{"a":"10.5.1.1"}}'), Forbidden, "failed to allocate secondary ip address"),
    (_pool('"Subnet":"x"},{"Subnet":"y"'), InvalidArgument, "* invalid subnet x"),
    (_pool(f'{SUBNET}}},{{"Subnet":"10.6.0.0/24"'), Forbidden, "bridge driver doesn't support multiple subnets"),
]
REFUSED_OPTIONS = [
    ("com.docker.network.driver.mtu", "x", '(strconv.Atoi: parsing "x": invalid syntax)'),
    ("com.docker.network.driver.mtu", "-5", "invalid MTU number: -5"),
    ("com.docker.network.driver.mtu", "70000", "invalid argument"),
    ("com.docker.network.bridge.enable_icc", "x", '(strconv.ParseBool: parsing "x": invalid syntax)'),
    ("com.docker.network.bridge.host_binding_ipv4", "x", "value: x (nil ip)"),
    ("com.docker.network.bridge.name", "abcdefghijklmnopqrst", "numerical result out of range"),
    ("com.docker.network.bridge.name", 'x" drop', "invalid bridge name"),
    ("com.docker.network.bridge.name", "..", "invalid bridge name"),
    ("com.docker.network.bridge.gateway_mode_ipv4", "routed", "is not supported"),
]


@pytest.mark.parametrize(("body", "kind", "words"), REFUSED)
def test_what_is_no_network(body: str, kind: type[WherryError], words: str) -> None:
    """A request that cannot be is refused before anything is made."""
    with pytest.raises(kind, match=re.escape(words)):
        _spec(body)


@pytest.mark.parametrize(("name", "value", "words"), REFUSED_OPTIONS)
def test_options_that_are_none(name: str, value: str, words: str) -> None:
    """An option that this engine does not honour is refused by name; a name that means something to nft, too."""
    with pytest.raises(WherryError, match=re.escape(words)):
        parse_create(NetworkCreate(name="w", options={name: value}))


def test_pools_are_chosen_beside_what_there_is() -> None:
    """A chosen subnet keeps away from the host's; one that was asked for only from other networks'."""
    spec = parse_create(NetworkCreate(name="w", enable_ipv6=True))
    choose_pools(spec, ["172.17.0.5/32", "192.0.2.0/24"], ["172.18.0.0/16"], "seed")
    assert [pool.subnet for pool in spec.chosen][1] == "172.19.0.0/16"
    assert spec.chosen[0].subnet.startswith("fd") and spec.chosen[0].gateway.endswith("::1")
    asked = parse_create(NetworkCreate(name="w"))
    asked.pools = [IpamPool("192.0.2.0/24")]
    choose_pools(asked, ["192.0.2.0/24"], [], "seed")
    assert asked.chosen == [IpamPool("192.0.2.0/24", gateway="192.0.2.1")]
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        choose_pools(asked, [], ["192.0.0.0/16"], "seed")


def test_networks_are_read_again(tmp_path: Path) -> None:
    """What was saved is read in the order of creation; what a crash left half is swept, what is damaged stays."""
    roots = Roots(str(tmp_path / "data"))
    assert catalogue.load(roots) == []
    made = [parse_create(NetworkCreate(name=f"n{n}")) for n in range(3)]
    for spec in reversed(made):
        choose_pools(spec, [], [], "seed")
        catalogue.save(roots, spec)
    half, damaged = Path(roots.networks, "e" * 64), Path(roots.networks, "f" * 64)
    half.mkdir()
    damaged.mkdir()
    (damaged / "network.json").write_text("{")
    assert catalogue.load(roots) == made
    assert not half.exists() and damaged.exists()
    catalogue.forget(roots, made[0], shutil.rmtree)
    assert catalogue.load(roots) == made[1:]
    (damaged / "network.json").write_text('{"id":"%s","name":"x","created":"","version":9}' % ("f" * 64))
    with pytest.raises(NewerSchema):
        catalogue.load(roots)


WISHES = [
    (
        {"IPAMConfig": {"IPv4Address": "10.7.0.1"}},
        True,
        "no configured subnet or ip-range contain the IP address 10.7.0.1",
    ),
    ({"IPAMConfig": {"IPv6Address": "fd00::1"}}, True, "only when connecting to networks with user configured subnets"),
    ({"IPAMConfig": {"IPv4Address": "x"}}, True, "* invalid IPv4 address: x\n* no configured subnet"),
    ({"IPAMConfig": {"LinkLocalIPs": ["x"]}}, True, "invalid link-local IP address: x"),
    ({"IPAMConfig": {"IPv4Address": "10.5.1.9"}}, False, "is supported on user defined networks only"),
    ({"Aliases": ["x"]}, False, "network-scoped alias is supported only for containers in user defined networks"),
    ({"Aliases": ["a b"]}, True, "invalid alias"),
    ({"MacAddress": "x"}, True, "x is not a valid mac address"),
    ({"Aliases": "x"}, True, "invalid endpoint settings"),
]


@pytest.mark.parametrize(("wish", "user_defined", "words"), WISHES)
def test_what_an_endpoint_cannot_be(wish: dict[str, object], user_defined: bool, words: str) -> None:
    """What is asked of an endpoint is checked against its network, all of it at once."""
    with pytest.raises(InvalidArgument, match=re.escape(words)):
        check(parse_wish(wish), [IpamPool("10.5.1.0/24")], user_defined=user_defined)


def test_an_empty_wish_is_fine() -> None:
    """Nulls and nothing ask for nothing."""
    for wish in (None, {}, {"IPAMConfig": None, "Aliases": None, "MacAddress": ""}):
        check(parse_wish(wish), [], user_defined=False)
