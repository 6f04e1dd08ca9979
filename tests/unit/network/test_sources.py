"""Which source addresses a container may use: what follows from its endpoints, its capabilities and its network."""

import pytest

from wherry.containers.spec.security import administers_network
from wherry.errors import InvalidArgument
from wherry.network.endpoint import Endpoint
from wherry.network.ruleset import Protected
from wherry.network.sources import guarded, link_local, ports_of
from wherry.network.spec import SPOOF_PROTECTION, parse_create
from wherry.wire.containers import HostConfig
from wherry.wire.networks import NetworkCreate


def _endpoint(kind: str, **more: object) -> Endpoint:
    values = {
        "id": "e" * 64,
        "container_id": "c" * 64,
        "network": "near",
        "network_id": "n" * 64,
        "bridge": "br-near",
        "host_name": "veth0123456789",
        "name": "eth0",
        "mac": "02:42:0a:08:00:02",
        "address": "10.8.0.2",
        "prefix_length": 24,
        "gateway": "10.8.0.1",
        "mtu": 1500,
        "kind": kind,
    }
    return Endpoint.from_json({**values, **more})


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("34:56:78:9a:bc:de", "fe80::3656:78ff:fe9a:bcde"),  # RFC 4291, appendix A
        ("02:42:0a:08:00:02", "fe80::42:aff:fe08:2"),
    ],
)
def test_the_link_local_address_of_a_mac(mac: str, address: str) -> None:
    """It is the one that the kernel makes."""
    assert link_local(mac) == address


def test_the_ports_of_a_container() -> None:
    """All that it was given on bridges, without lengths; on other links nobody judges."""
    endpoints = [
        _endpoint("bridge", address6="fd00:8::2", link_local=["169.254.7.7/16", "fe80::77"]),
        _endpoint("macvlan", host_name="", bridge="eth0"),
    ]
    (port,) = ports_of(endpoints, administers=False)
    assert (port.name, port.bridge, port.mac) == ("veth0123456789", "br-near", "02:42:0a:08:00:02")
    assert port.addresses == ("10.8.0.2", "fd00:8::2", "169.254.7.7", "fe80::77", "fe80::42:aff:fe08:2")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (HostConfig(), False),
        (HostConfig(cap_add=["NET_RAW", "SYS_ADMIN"]), False),
        (HostConfig(cap_add=["NET_ADMIN"]), True),
        (HostConfig(cap_add=["cap_net_admin"]), True),
        (HostConfig(cap_add=["ALL"]), True),
        (HostConfig(cap_add=["ALL"], cap_drop=["NET_ADMIN"]), False),
        (HostConfig(cap_drop=["ALL"]), False),
        (HostConfig(privileged=True), True),
    ],
)
def test_who_administers_its_network(host: HostConfig, expected: bool) -> None:
    """Whoever has CAP_NET_ADMIN, however it was asked for."""
    assert administers_network(host) is expected


def test_networks_that_are_guarded() -> None:
    """Those that are not switched off."""
    networks = [Protected(name, "10.0.0.0/24", spoof_protection=name) for name in ("on", "strict", "off")]
    assert guarded(networks) == {"on": "on", "strict": "strict"}


@pytest.mark.parametrize("value", ["on", "strict", "off"])
def test_the_option_of_a_network(value: str) -> None:
    """Is what was asked for; without it nothing is said."""
    assert parse_create(NetworkCreate(name="near", options={SPOOF_PROTECTION: value})).spoof_protection == value
    assert parse_create(NetworkCreate(name="near")).spoof_protection == ""


@pytest.mark.parametrize("value", ["", "true", "ON"])
def test_no_other_value(value: str) -> None:
    """Is accepted."""
    with pytest.raises(InvalidArgument, match="expected one of on, strict, off"):
        parse_create(NetworkCreate(name="near", options={SPOOF_PROTECTION: value}))
