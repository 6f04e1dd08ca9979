"""`wherry.service.balance` and `.drain`: each algorithm does what its name says, and only draining spares a request."""

import contextlib
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.harness import EngineProcess, until
from tests.names.test_services import free_port, get, labels, ready, web

pytestmark = pytest.mark.root

SLOW = """
mkdir -p /www/cgi-bin
printf '#!/bin/sh\\ntouch /www/began; sleep 2; echo; echo done\\n' >/www/cgi-bin/slow
chmod +x /www/cgi-bin/slow; echo here >/www/index.html
trap 'exit 0' TERM
httpd -f -p 80 -h /www & wait
"""


def _pair(engine: EngineProcess, balance: str, *, mode: str = "http") -> int:
    port = free_port()
    for number in range(2):
        web(engine, f"{balance}{number}", *labels(balance, port, balance=balance, mode=mode))
    ready(engine, balance, 2)
    return port


def _asked_from(port: int, source: str) -> str:
    """Who answers a client of another address of this host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()


def test_roundrobin_takes_turns(engine: EngineProcess) -> None:
    """Each member gets every second request."""
    port = _pair(engine, "roundrobin")
    answers = [get(port)[1] for _ in range(10)]
    assert len(set(answers[:2])) == 2
    assert answers == answers[:2] * 5


def test_source_and_first_stay(engine: EngineProcess) -> None:
    """`source` keeps an address with one member and spreads addresses; `first` takes the first member for all."""
    source, first = _pair(engine, "source"), _pair(engine, "first")
    addresses = [f"127.0.0.{number}" for number in range(1, 17)]
    chosen = {address: {_asked_from(source, address) for _ in range(3)} for address in addresses}
    assert all(len(members) == 1 for members in chosen.values())
    assert len(set.union(*chosen.values())) == 2
    assert {_asked_from(first, address) for address in addresses} == {"first0"} or {
        _asked_from(first, address) for address in addresses
    } == {"first1"}


def test_random_follows_no_turn(engine: EngineProcess) -> None:
    """Both members are met, in no fixed order: forty turns in order have a chance of one in 10**12."""
    port = _pair(engine, "random")
    answers = [get(port)[1] for _ in range(40)]
    assert len(set(answers)) == 2
    assert answers != [answers[number % 2] for number in range(40)]


def test_leastconn_avoids_the_busy_member(engine: EngineProcess) -> None:
    """While a connection is open to one member, the other gets all further ones: turns would alternate."""
    port = _pair(engine, "leastconn", mode="tcp")

    def open_connections() -> int:
        told = engine.wherry("proxy", "stats", "leastconn", "--format", "json").out
        rows = [json.loads(line) for line in told.splitlines()]
        return sum(int(row["Sessions"]) for row in rows if row["Member"])

    with socket.create_connection(("127.0.0.1", port), 20) as held:
        until(lambda: open_connections() == 1, "the connection is open")
        others = []
        for _ in range(4):
            others.append(get(port)[1])
            until(lambda: open_connections() == 1, "the other connection has ended")
        held.sendall(b"GET / HTTP/1.0\r\n\r\n")
        busy = held.makefile().read().split()[-1]
    assert len(set(others)) == 1 and others[0] != busy


@pytest.mark.parametrize("drain", ["10", "0"], ids=["drained", "cut"])
def test_drain_spares_an_open_request(engine: EngineProcess, drain: str) -> None:
    """`stop` waits for a request that is under way as long as the label says; with 0 the request is cut."""
    port = free_port()
    name = f"drain{drain}"
    engine.docker("run", "-d", "--name", name, *labels(name, port, drain=drain), "busybox", "sh", "-c", SLOW)
    ready(engine, name, 1)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(get, port, "/cgi-bin/slow")
        began = ("exec", name, "test", "-e", "/www/began")
        until(lambda: engine.docker(*began, check=False).code == 0, "the request is under way")
        engine.docker("stop", "-t", "20", name)
        if drain == "0":
            try:
                status, body, _ = asked.result(30)
            except (http.client.HTTPException, OSError):
                return
            assert status >= 500 or "done" not in body
        else:
            assert asked.result(30)[:2] == (200, "done")
