"""What a create request publishes, read and shown."""

import re

import pytest

from wherry.errors import InvalidArgument, NotSupported, PortUnavailable
from wherry.network.ports import HostPorts, PortRequest, PublishedPort, parse_port_key, parse_requests
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
        ("sctp", 9, "", 0, 0),
        ("udp", 53, "", 0, 0),
        ("tcp", 80, "0.0.0.0", 8000, 8010),
        ("tcp", 443, "127.0.0.1", 8443, 8443),
        ("tcp", 443, "", 9443, 9443),
    ]


def test_publish_all_takes_what_is_exposed() -> None:
    """`-P` gives each exposed port that is not bound a port of our choice; without it exposing publishes nothing."""
    bindings: dict[str, list[PortBinding] | None] = {"80/tcp": [PortBinding("", "8080")]}
    assert _read(bindings, ("80/tcp", "81/tcp")) == [("tcp", 80, "", 8080, 8080)]
    assert _read(bindings, ("80/tcp", "81/tcp"), publish_all=True)[1:] == [("tcp", 81, "", 0, 0)]
    assert _read(None) == []


@pytest.mark.parametrize("text", ["x", "80-", "-80", "90-80", "65536", "+80", "8_0", "٨٠", " 80", "80 ", "1-2-3"])
def test_ports_that_are_none(text: str) -> None:
    """What is no port or range is refused in Docker's words."""
    with pytest.raises(InvalidArgument, match="invalid port specification"):
        _read({"80/tcp": [PortBinding("", text)]})


def test_keys_and_addresses_that_are_none() -> None:
    """Unknown protocols, port 0 and wrong addresses are refused; those of IPv6 are taken in any spelling."""
    for key in ("0/tcp", "/tcp", "80/icmp", "80/tcp/udp", "http", "8000-8010/tcp"):
        with pytest.raises(InvalidArgument):
            parse_port_key(key)
    with pytest.raises(InvalidArgument, match=r"invalid IP address: 1\.2\.3"):
        _read({"80/tcp": [PortBinding("1.2.3", "80")]})
    for address in ("::1", "[::1]", "0:0::1"):
        assert "::1" in str(_read({"80/tcp": [PortBinding(address, "80")]}))


def _allocate(held: HostPorts, host_ip: str, container6: str = "", binding: str = "") -> list[str]:
    ports = held.allocate("c", [PortRequest("tcp", 80, host_ip)], "172.17.0.2", "web (e)", container6, binding)
    try:
        assert len({one.port.host_port for one in ports}) == 1
        return [f"{one.port.host_ip} {one.port.container_ip}" for one in ports]
    finally:
        for one in ports:
            one.close()
        held.release("c", [one.port for one in ports])


def test_a_port_is_the_same_on_both_families() -> None:
    """Without an address a port is taken on every address that the container can be reached by, with one number."""
    held = HostPorts()
    # without IPv6 of its own the container is reached over IPv6 all the same, by a relay
    assert _allocate(held, "") == ["0.0.0.0 172.17.0.2", ":: 172.17.0.2"]
    assert _allocate(held, "", "fd00::2") == ["0.0.0.0 172.17.0.2", ":: fd00::2"]
    assert _allocate(held, "127.0.0.1", "fd00::2") == ["127.0.0.1 172.17.0.2"]
    assert _allocate(held, "::", "fd00::2") == [":: fd00::2"]
    assert _allocate(held, "", "fd00::2", "127.0.0.1") == ["127.0.0.1 172.17.0.2"]
    assert _allocate(held, "::") == [":: 172.17.0.2"]
    assert _allocate(held, "::1", "fd00::2") == ["::1 fd00::2"]
    with pytest.raises(NotSupported, match=r"sctp on \[::\] needs a network with IPv6"):
        held.allocate("c", [PortRequest("sctp", 80, "::")], "172.17.0.2", "web (e)")


def test_what_is_relayed_and_what_is_translated() -> None:
    """Of IPv6 towards IPv4 nothing is translated; of all of IPv6 towards IPv6 only ::1 is relayed; SCTP never is."""
    table = {
        ("tcp", "0.0.0.0", "172.17.0.2"): (True, False),
        ("tcp", "::", "172.17.0.2"): (False, True),
        ("udp", "::", "172.17.0.2"): (False, True),
        ("tcp", "::", "fd00::2"): (True, True),
        ("sctp", "::", "fd00::2"): (True, False),
        ("tcp", "::1", "fd00::2"): (False, True),
        ("tcp", "::1", "172.17.0.2"): (False, True),
        ("tcp", "fd00::9", "fd00::2"): (True, False),
        ("tcp", "fd00::9", "172.17.0.2"): (False, True),
    }
    for (protocol, host, container), wanted in table.items():
        port = PublishedPort(protocol, host, 8080, container, 80)
        assert (port.translated, port.relayed) == wanted, port


def test_families_do_not_conflict() -> None:
    """The same port on IPv4 and IPv6 may be two containers'; on one address and all of its family it may not."""
    held = HostPorts()
    held.reserve("a", [PublishedPort("tcp", "0.0.0.0", 8080, "172.17.0.2", 80)])
    held.reserve("b", [PublishedPort("tcp", "::", 8080, "fd00::2", 80)])
    for address, shown in (("127.0.0.1", "127.0.0.1"), ("fd00::9", "[fd00::9]")):
        with pytest.raises(PortUnavailable, match=re.escape(f"Bind for {shown}:8080 failed")):
            held.reserve("c", [PublishedPort("tcp", address, 8080, "x", 80)])


def test_a_published_port_survives_its_json() -> None:
    """What a container's record keeps of a port gives the same port again, and its text is the one in errors."""
    port = PublishedPort("tcp", "0.0.0.0", 8080, "172.17.0.2", 80)
    assert PublishedPort.from_json(port.to_json()) == port
    assert str(port) == "0.0.0.0:8080:172.17.0.2:80/tcp"
