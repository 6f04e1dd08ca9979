"""Networks as records, and as Docker's clients see them."""

import re
from pathlib import Path

import pytest

from wherry.errors import InvalidArgument, NewerSchema, StoreCorrupt
from wherry.linux.rtnetlink import pack_mac, split_address
from wherry.network.endpoint import Endpoint
from wherry.network.records import PlainNetwork, load_record, member
from wherry.network.ruleset import Protected, render
from wherry.paths import Roots


def test_host_and_none_are_dockers(tmp_path: Path) -> None:
    """The networks that need nothing have a stable id and dockerd's JSON."""
    roots = Roots(str(tmp_path))
    none, host = PlainNetwork(roots, "none"), PlainNetwork(roots, "host")
    shown = none.inspect({"c": member("web", "e")})
    assert (shown["Driver"], host.inspect()["Driver"]) == ("null", "host")
    assert shown["IPAM"] == {"Driver": "default", "Options": None, "Config": None}
    assert shown["Containers"]["c"] == {
        "Name": "web",
        "EndpointID": "e",
        "MacAddress": "",
        "IPv4Address": "",
        "IPv6Address": "",
    }
    assert re.fullmatch("[0-9a-f]{64}", none.id) and none.id != host.id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", shown["Created"])
    assert PlainNetwork(roots, "none").inspect({"c": member("web", "e")}) == shown


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    """A record that is not ours, or of a newer version, stops the engine by name and is left alone."""
    roots = Roots(str(tmp_path))
    load_record(roots, "bridge")
    path = tmp_path / "networks" / "bridge.json"
    for text, kind in (
        ("{", StoreCorrupt),
        ("[]", StoreCorrupt),
        ('{"v": 1}', StoreCorrupt),
        ('{"v": 9}', NewerSchema),
    ):
        path.write_text(text)
        with pytest.raises(kind, match=r"bridge\.json"):
            load_record(roots, "bridge")
        assert path.read_text() == text


def test_an_endpoint_survives_its_json() -> None:
    """What a container's record keeps of its endpoint gives the same plan and settings again."""
    endpoint = Endpoint(
        id="e" * 64,
        container_id="c" * 64,
        network="bridge",
        network_id="n" * 64,
        bridge="wherry0",
        host_name="vethcccccc0000",
        name="eth0",
        mac="02:42:ac:11:00:02",
        address="172.17.0.2",
        prefix_length=16,
        gateway="172.17.0.1",
        mtu=1500,
    )
    again = Endpoint.from_json(endpoint.to_json())
    assert again.plan() == endpoint.plan() and again.settings() == endpoint.settings()
    assert again.plan()["addresses"] == ["172.17.0.2/16"]
    assert (again.settings()["IPAddress"], again.settings()["IPPrefixLen"]) == ("172.17.0.2", 16)


def test_an_endpoint_of_an_older_version_is_read() -> None:
    """What the first version kept of an endpoint is enough; what is none is refused."""
    words = "id container_id network network_id bridge host_name name mac address gateway"
    old = {**dict.fromkeys(words.split(), "x"), "prefix_length": 16, "mtu": 1500}
    assert Endpoint.from_json(old).default_bridge
    with pytest.raises(StoreCorrupt):
        Endpoint.from_json({"id": 1})


def test_the_rules_do_not_grow() -> None:
    """The table has as many rules for a hundred networks as for two, and none for ports."""
    few = [Protected(f"br-{n}", f"10.{n}.0.0/16", internal=n == 0) for n in range(3)]
    many = [Protected(f"br-{n}", f"10.{n}.0.0/16", internal=n == 0) for n in range(100)]
    assert render("t", few).count("\n") == render("t", many).count("\n")
    assert "elements" not in render("t", [])


def test_addresses_and_macs_are_checked() -> None:
    """What the kernel would take for something else is refused before."""
    assert split_address("172.17.0.2/16")[2] == 16 and split_address("fd00::1")[2] == 128
    for wrong in ("", "1.2.3", "1.2.3.4/33", "1.2.3.4/x", "1.2.3.4/-1", "fd00::1/129"):
        with pytest.raises(InvalidArgument):
            split_address(wrong)
    for wrong in ("", "02:42", "02:42:ac:11:00:zz", "02-42-ac-11-00-02", "02:42:ac:11:00:02:03", "2:42:ac:11:00:002"):
        with pytest.raises(InvalidArgument, match="is not a valid mac address"):
            pack_mac(wrong)
