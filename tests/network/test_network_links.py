"""`--link`: names, hosts file and environment as Docker's, and the way through where containers are kept apart."""

import json
from collections.abc import Iterator

import pytest
from tests.e2e.harness import EngineProcess, running, until
from tests.e2e.shared import lent

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=["together", "apart"])
def shared(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    """An engine, once with `icc` and once without."""
    with running(EngineProcess(*(["--icc=false"] if request.param == "apart" else []))) as engine:
        yield engine


@pytest.fixture
def engine(shared: EngineProcess) -> Iterator[EngineProcess]:
    """That engine; what a test made is removed after it."""
    with lent(shared) as engine:
        yield engine


def _inside(engine: EngineProcess, command: str, *flags: str) -> str:
    return engine.docker("run", "--rm", "--name", "app", *flags, "busybox", "sh", "-c", command).out


def test_what_a_linked_container_sees(engine: EngineProcess) -> None:
    """The alias in the hosts file, and the variables of name, ports and environment; its own ones win."""
    engine.docker(
        *("run", "-d", "--name", "db1", "-h", "dbhost", "--expose", "5432", "--expose", "53/udp"),
        *("--expose", "8000-8002", "-e", "FOO=bar", "-e", "HOME=/x", "busybox", "sleep", "999"),
    )
    address = engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db1").out.strip()
    out = _inside(engine, "env; cat /etc/hosts", "--link", "db1:my-db", "-e", "MY_DB_ENV_FOO=mine")
    assert f"{address}\tmy-db dbhost db1\n" in out
    entries = dict(line.partition("=")[::2] for line in out.splitlines() if line.startswith("MY_DB"))
    assert entries["MY_DB_NAME"] == "/app/my-db"
    assert entries["MY_DB_PORT"] == f"udp://{address}:53"
    assert entries["MY_DB_PORT_5432_TCP"] == f"tcp://{address}:5432"
    assert entries["MY_DB_PORT_53_UDP_ADDR"] == address
    assert (entries["MY_DB_PORT_8000_TCP_PORT_START"], entries["MY_DB_PORT_8000_TCP_PORT_END"]) == ("8000", "8002")
    assert entries["MY_DB_ENV_FOO"] == "mine"
    assert not any(name.startswith("MY_DB_ENV_HOME") for name in entries)


def test_a_link_follows(engine: EngineProcess) -> None:
    """The linked container's new address and new name are the link's; `rm --link` takes the link alone away."""
    engine.docker("run", "-d", "--name", "db1", "busybox", "sleep", "999")
    engine.docker("run", "-d", "--name", "app", "--link", "db1:db", "--link", "db1:two", "busybox", "sleep", "999")
    engine.docker("stop", "-t", "0", "db1")
    engine.docker("run", "-d", "--name", "other", "busybox", "sleep", "999")
    engine.docker("start", "db1")
    address = engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db1").out.strip()
    until(lambda: f"{address}\tdb " in engine.docker("exec", "app", "cat", "/etc/hosts").out, "the hosts file follows")
    engine.docker("rename", "db1", "db2")
    engine.docker("rm", "--link", "app/two")
    assert json.loads(engine.docker("inspect", "-f", "{{json .HostConfig.Links}}", "app").out) == ["/db2:/app/db"]
    refused = engine.docker("rm", "--link", "app/two", check=False)
    assert "No such container: app/two" in refused.err


def test_links_that_cannot_be(engine: EngineProcess) -> None:
    """Who is not there is refused at create, who does not run at start."""
    refused = engine.docker("create", "--name", "app", "--link", "nope:x", "busybox", check=False)
    assert "could not get container for nope: No such container: nope" in refused.err
    engine.docker("create", "--name", "db1", "busybox", "true")
    engine.docker("create", "--name", "app", "--link", "db1:db", "busybox", "true")
    refused = engine.docker("start", "app", check=False)
    assert "Cannot link to a non running container: /db1 AS /app/db" in refused.err


def test_a_link_lets_through(engine: EngineProcess) -> None:
    """A linked container's exposed port is reached by its alias; where containers are apart, nothing else is."""
    serve = ("busybox", "sh", "-c", "while :; do echo served | nc -l -p 5432; done")
    for name in ("db1", "db2"):
        engine.docker("run", "-d", "--name", name, "--expose", "5432", *serve)
    other = engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db2").out.strip()
    ask = f"for n in 1 2 3 4 5 6 7 8 9; do nc -w 1 db 5432 && break; sleep 0.1; done; nc -w 1 {other} 5432 || echo no"
    apart = "--icc=false" in engine.flags
    assert _inside(engine, ask, "--link", "db1:db").split() == ["served", "no" if apart else "served"]


def test_a_build_is_linked_to_nobody(engine: EngineProcess) -> None:
    """Its steps run on the default network, whether containers are kept apart there or not."""
    engine.wherry("build", "--no-cache", "-", stdin=b"FROM busybox\nRUN ip -4 addr show eth0\n")
