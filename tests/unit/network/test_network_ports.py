"""What a create request publishes, read and shown."""

import pytest

from wherry.errors import InvalidArgument, NotSupported
from wherry.network.ports import PublishedPort, parse_port_key, parse_requests
from wherry.wire.containers import PortBinding


def _read(
    bindings: dict[str, list[PortBinding] | None] | None, exposed: tuple[str, ...] = (), publish_all: bool = False
) -> list[tuple[str, int, str, int, int]]:
    found = parse_requests(exposed, bindings, publish_all)
    return [(r.protocol, r.container_port, r.host_ip, r.first, r.last) for r in found]


def test_bindings_in_every_form() -> None:
    """Plain, with an address, a range, without a port, without a binding; sorted by container port."""
    assert _read(
        {
            "443/tcp": [PortBinding("127.0.0.1", "8443"), PortBinding("", "9443")],
            "80": [PortBinding("0.0.0.0", "8000-8010")],
            "53/udp": [PortBinding()],
            "9/SCTP": None,
        }
    ) == [
        ("sctp", 9, "0.0.0.0", 0, 0),
        ("udp", 53, "0.0.0.0", 0, 0),
        ("tcp", 80, "0.0.0.0", 8000, 8010),
        ("tcp", 443, "127.0.0.1", 8443, 8443),
        ("tcp", 443, "0.0.0.0", 9443, 9443),
    ]


def test_publish_all_takes_what_is_exposed() -> None:
    """`-P` gives each exposed port that is not bound a port of our choice; without it exposing publishes nothing."""
    bindings: dict[str, list[PortBinding] | None] = {"80/tcp": [PortBinding("", "8080")]}
    assert _read(bindings, ("80/tcp", "81/tcp")) == [("tcp", 80, "0.0.0.0", 8080, 8080)]
    assert _read(bindings, ("80/tcp", "81/tcp"), publish_all=True)[1:] == [("tcp", 81, "0.0.0.0", 0, 0)]
    assert _read(None) == []


@pytest.mark.parametrize("text", ["x", "80-", "-80", "90-80", "65536", "+80", "8_0", "٨٠", " 80", "80 ", "1-2-3"])
def test_ports_that_are_none(text: str) -> None:
    """What is no port or range is refused in Docker's words."""
    with pytest.raises(InvalidArgument, match="invalid port specification"):
        _read({"80/tcp": [PortBinding("", text)]})


def test_keys_and_addresses_that_are_none() -> None:
    """Unknown protocols, port 0 and wrong addresses are refused; IPv6 is named as not there yet."""
    for key in ("0/tcp", "/tcp", "80/icmp", "80/tcp/udp", "http", "8000-8010/tcp"):
        with pytest.raises(InvalidArgument):
            parse_port_key(key)
    with pytest.raises(InvalidArgument, match=r"invalid IP address: 1\.2\.3"):
        _read({"80/tcp": [PortBinding("1.2.3", "80")]})
    for address in ("::1", "[::]"):
        with pytest.raises(NotSupported, match="IPv6"):
            _read({"80/tcp": [PortBinding(address, "80")]})


def test_a_published_port_survives_its_json() -> None:
    """What a container's record keeps of a port gives the same port again, and its text is the one in errors."""
    port = PublishedPort("tcp", "0.0.0.0", 8080, "172.17.0.2", 80)
    assert PublishedPort.from_json(port.to_json()) == port
    assert str(port) == "0.0.0.0:8080:172.17.0.2:80/tcp"
