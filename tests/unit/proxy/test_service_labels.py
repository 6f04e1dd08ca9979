"""Labels of services: what is taken, what is refused by name, what may stand beside what; the configuration's order."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidArgument
from wherry.proxy.config import Pool, Slot, empty_pool, render
from wherry.proxy.labels import Service, conflict, own_labels, parse
from wherry.proxy.pools import Change, arrange


def _labels(**values: str) -> dict[str, str]:
    name = values.pop("name", "web")
    return {"wherry.service": name, **{f"wherry.service.{key}": value for key, value in values.items()}}


def _parse(**values: str) -> Service:
    found = parse(_labels(**values))
    assert found is not None
    return found


def test_labels_make_a_service() -> None:
    """Defaults, and every label that there is but the certificate."""
    assert parse({}) is None
    assert parse(own_labels({"other": "x", "wherry.services": "y"})) is None
    assert parse(own_labels(None)) is None
    assert _parse(port="80") == Service("web", 80)
    service = _parse(
        port="8080",
        publish="[::1]:81",
        host="A.example, *.b.example,",
        path="/api/",
        balance="leastconn",
        sticky="SESSION",
        check="/healthz",
        drain="0",
    )
    assert service == Service(
        "web",
        8080,
        address="[::1]",
        publish=81,
        hosts=("a.example", "*.b.example"),
        path="/api",
        balance="leastconn",
        sticky="SESSION",
        check="/healthz",
        drain=0.0,
    )
    assert _parse(port="5432", mode="tcp", publish="127.0.0.1:15432", check="true", sticky="true").check == "tcp"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "wherry.service.port is missing"),
        ({"port": "0"}, "from 1 to 65535"),
        ({"port": "65536"}, "from 1 to 65535"),
        ({"port": "٣"}, "from 1 to 65535"),
        ({"name": "Web", "port": "80"}, "lower case"),
        ({"name": "a b", "port": "80"}, "lower case"),
        ({"name": "", "port": "80"}, "wherry.service is missing"),
        ({"port": "80", "mode": "udp"}, "one of http, tcp"),
        ({"port": "80", "mode": "tcp"}, "publish is missing"),
        ({"port": "80", "mode": "tcp", "publish": "1", "host": "a"}, "needs mode http"),
        ({"port": "80", "publish": "host:80"}, "ADDRESS:PORT"),
        ({"port": "80", "publish": "80:"}, "ADDRESS:PORT"),
        ({"port": "80", "host": "a.example }\n    use_backend x"}, "host names"),
        ({"port": "80", "host": "a..b"}, "host names"),
        ({"port": "80", "path": "api"}, "begins with /"),
        ({"port": "80", "path": "/a }"}, "begins with /"),
        ({"port": "80", "path": "/a\nb"}, "begins with /"),
        ({"port": "80", "balance": "url_param x"}, "one of roundrobin"),
        ({"port": "80", "sticky": "a b"}, "name of a cookie"),
        ({"port": "80", "check": "healthz"}, "begins with /"),
        ({"port": "80", "mode": "tcp", "publish": "1", "check": "/x"}, "in mode tcp"),
        ({"port": "80", "drain": "-1"}, "seconds"),
        ({"port": "80", "drain": "9999"}, "seconds"),
        ({"port": "80", "tls": "cert.pem"}, "absolute path"),
        ({"port": "80", "tls": "/nowhere/cert.pem"}, "No such file"),
        ({"port": "80", "prot": "80"}, "unknown label wherry.service.prot"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(values: dict[str, str], words: str) -> None:
    """Each mistake is an error that names the label, before anything is made."""
    with pytest.raises(InvalidArgument, match=words):
        parse(_labels(**values))


def test_a_certificate_must_be_one(tmp_path: Path) -> None:
    """A file without a certificate is refused."""
    path = tmp_path / "web.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    with pytest.raises(InvalidArgument, match="tls"):
        parse(_labels(port="80", tls=str(path)))


@given(st.sampled_from(["host", "path", "sticky", "check", "publish", "balance"]), st.text(max_size=40))
def test_no_label_adds_a_line_to_the_configuration(key: str, value: str) -> None:
    """Whatever a label says: it is refused, or the configuration has the lines that it always has."""
    try:
        service = _parse(port="80", **{key: value})
    except InvalidArgument:
        return
    text = render({"web": empty_pool(service)}, connections=100, key="k")
    known = ("global", "defaults", "frontend ", "backend ", "    ", "# Written")
    assert all(line.startswith(known) for line in text.splitlines())
    servers = [line for line in text.splitlines() if line.startswith("    server ")]
    assert len(servers) == 8
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}


def test_what_may_stand_beside_what() -> None:
    """One port: services of one mode that differ in host or path; never two of the same, nor TLS beside none."""
    web = _parse(port="80", host="a.example")
    others = {"web": web}
    assert conflict(_parse(name="api", port="80", host="b.example"), others) == ""
    assert conflict(_parse(name="api", port="80", host="a.example", path="/api"), others) == ""
    assert conflict(_parse(name="api", port="80"), others) == ""
    assert conflict(_parse(name="web", port="81", host="c.example"), others) == ""
    assert "same hosts" in conflict(_parse(name="api", port="80", host="x.example,a.example"), others)
    assert "mode http" in conflict(_parse(name="api", port="80", mode="tcp", publish="80"), others)
    assert "all addresses" in conflict(_parse(name="api", port="80", publish="127.0.0.1:80"), others)
    assert conflict(_parse(name="api", port="80", mode="tcp", publish="81"), others) == ""
    tcp = {"db": _parse(name="db", port="5432", mode="tcp", publish="127.0.0.1:5432")}
    assert "service db's" in conflict(_parse(name="x", port="1", mode="tcp", publish="127.0.0.1:5432"), tcp)
    assert conflict(_parse(name="x", port="1", mode="tcp", publish="127.0.0.2:5432"), tcp) == ""


def test_the_most_particular_choice_comes_first() -> None:
    """Exact hosts, wildcards, then any host; in each the longer path first; the default last."""
    services = [
        _parse(name="any", port="80"),
        _parse(name="path", port="80", path="/api"),
        _parse(name="wild", port="80", host="*.example"),
        _parse(name="host", port="80", host="a.example"),
        _parse(name="deep", port="80", host="a.example", path="/api/v1"),
        _parse(name="both", port="80", host="a.example", path="/api"),
    ]
    text = render({s.name: empty_pool(s) for s in services}, connections=100, key="k")
    chosen = [line.split()[1] for line in text.splitlines() if "_backend " in line]
    order = list(dict.fromkeys(chosen))
    assert order == ["svc_deep", "svc_both", "svc_host", "svc_wild", "svc_path", "svc_any"]


def test_slots() -> None:
    """Members keep their slots; who goes leaves its own empty, who only drains keeps it; too few become more."""
    pool = empty_pool(Service("web", 80))
    changes: list[Change] = []
    members = {f"c{number}": (f"10.0.0.{number}", 80) for number in range(8)}
    arrange(pool, members, lambda _id: True, changes)
    assert len(changes) == len(pool.slots) == 8
    where = {id_: pool.slot_of(id_) for id_ in members}
    del members["c3"], members["c4"]
    changes.clear()
    arrange(pool, members, lambda id_: id_ == "c4", changes)
    assert pool.slot_of("c3") is None
    assert pool.slots[where["c4"] or 0] == Slot("c4", "10.0.0.4", 80, ready=False)
    assert len(changes) == 2
    members |= {"n1": ("10.0.1.1", 80), "n2": ("10.0.1.2", 80)}
    arrange(pool, members, lambda _id: False, changes)
    assert len(pool.slots) == 8
    members["n3"] = ("10.0.1.3", 80)
    arrange(pool, members, lambda _id: False, changes)
    assert len(pool.slots) == 16
    assert {id_: pool.slot_of(id_) for id_ in where if id_ in members} == {
        id_: number for id_, number in where.items() if id_ in members
    }
    changes.clear()
    arrange(pool, members, lambda _id: False, changes)
    assert not changes
    assert isinstance(pool, Pool)
