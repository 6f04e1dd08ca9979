"""Names in networks of users, end to end: the docker command, real containers, and processes that die."""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.e2e.harness import EngineProcess, until
from wherry.linux import netns
from wherry.network.dns_message import NOERROR, SERVFAIL

from .conftest import kill
from .lab import PTR, A, Answer, ask_on, query

pytestmark = pytest.mark.root

T = TypeVar("T")
COUNT = int(os.environ.get("WHERRY_NAMES_CONTAINERS", "12"))


def run(engine: EngineProcess, name: str, *flags: str) -> None:
    """A container that does nothing."""
    engine.docker("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")


def pid_of(engine: EngineProcess, name: str) -> int:
    """Process 1 of a container."""
    return int(engine.docker("inspect", "-f", "{{.State.Pid}}", name).out)


def inside(pid: int, action: Callable[[], T]) -> T:
    """Run something in a container's network namespace."""
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        return netns.inside(fd, action)
    finally:
        os.close(fd)


def ask(pid: int, name: str, kind: int = A) -> Answer:
    """Ask 127.0.0.11 as a container would; once more where nothing comes, as every resolver does."""
    with inside(pid, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(5.0)
        for _ in range(4):
            with contextlib.suppress(TimeoutError):
                return ask_on(sock, query(name, kind))
    raise AssertionError(f"{name}: no answer")


def address(engine: EngineProcess, name: str, network: str) -> str:
    """A container's address on a network."""
    shown: Any = json.loads(engine.docker("inspect", name).out)[0]["NetworkSettings"]["Networks"][network]
    return str(shown["IPAddress"])


def helper_pid(engine: EngineProcess) -> int:
    """netd's pid; 0 while it does not run."""
    try:
        state = json.loads(Path(engine.roots.helper_run("netd"), "state.json").read_text())
    except (OSError, ValueError):
        return 0
    return int(state["init"]["pid"]) if state["init"] else 0


def test_containers_find_each_other(engine: EngineProcess) -> None:
    """By name, alias, short id and `name.network`, at once and as they come, go, join, leave and are renamed."""
    engine.docker("network", "create", "blue")
    run(engine, "one", "--network", "blue", "--network-alias", "both")
    run(engine, "two", "--network", "blue", "--network-alias", "both")
    first, second = (address(engine, name, "blue") for name in ("one", "two"))
    resolver = engine.docker("exec", "one", "cat", "/etc/resolv.conf").out
    assert resolver.startswith("nameserver 127.0.0.11\n")
    assert "ndots:0" in resolver
    short = engine.docker("inspect", "-f", "{{.Id}}", "two").out[:12]
    for name in ("two", "two.blue", short):
        assert f"Address: {second}" in engine.docker("exec", "one", "nslookup", name).out
    pid = pid_of(engine, "one")
    assert {tuple(ask(pid, "both").values) for _ in range(4)} == {(first, second), (second, first)}
    backwards = ".".join(reversed(second.split(".")))
    assert ask(pid, f"{backwards}.in-addr.arpa", PTR).values == ["two.blue"]
    # who starts is found before `run` returns, and finds others with its first breath
    ping = ("ping", "-c1", "-W5")
    for number in range(5):
        engine.docker("run", "--rm", "--network", "blue", "busybox", *ping, "two")
        run(engine, f"late{number}", "--network", "blue")
        assert ask(pid, f"late{number}").values == [address(engine, f"late{number}", "blue")]
    engine.docker("rm", "-f", "late0")
    assert ask(pid, "late0").values == []
    engine.docker("rename", "two", "new")
    assert ask(pid, "new").values == [second]
    assert ask(pid, "two").values == []
    run(engine, "lone")
    assert "127.0.0.11" not in engine.docker("exec", "lone", "cat", "/etc/resolv.conf").out
    engine.docker("network", "connect", "--alias", "guest", "blue", "lone")
    engine.docker("exec", "lone", *ping, "new")
    assert ask(pid, "guest").values == [address(engine, "lone", "blue")]
    engine.docker("network", "disconnect", "blue", "lone")
    assert ask(pid, "guest").values == []
    assert "127.0.0.11" not in engine.docker("exec", "lone", "cat", "/etc/resolv.conf").out


def test_a_build_asks_for_names(engine: EngineProcess) -> None:
    """The steps of a build know the names and aliases of the network that they run on, and no others."""
    build = ("build", "--no-cache", "-")
    for network in ("blue", "red"):
        engine.docker("network", "create", network)
        run(engine, f"in-{network}", "--network", network, "--network-alias", "target.example")
        dockerfile = f"FROM busybox\nRUN ping -c1 -W5 in-{network} && ping -c1 -W5 target.example\n"
        engine.wherry(*build, "--network", network, stdin=dockerfile.encode())
    refused = b"FROM busybox\nRUN ! nslookup in-red\n"
    engine.wherry(*build, "--network", "blue", stdin=refused)
    assert ask(pid_of(engine, "in-blue"), "target.example").values == [address(engine, "in-blue", "blue")]


def test_networks_do_not_see_each_other(engine: EngineProcess) -> None:
    """Names of a network are known in it only; `--link` names are one container's own; Docker's default serves none."""
    engine.docker("network", "create", "blue")
    engine.docker("network", "create", "--internal", "red")
    run(engine, "one", "--network", "blue")
    run(engine, "two", "--network", "red")
    run(engine, "both", "--network", "red")
    engine.docker("network", "connect", "--link", "one:store", "blue", "both")
    run(engine, "default")
    assert ask(pid_of(engine, "two"), "one").code == SERVFAIL
    assert ask(pid_of(engine, "both"), "two").values == [address(engine, "two", "red")]
    assert ask(pid_of(engine, "both"), "store").values == [address(engine, "one", "blue")]
    assert ask(pid_of(engine, "two"), "store").values == []
    assert engine.docker("exec", "default", "nslookup", "one", check=False).code != 0


class Upstream:
    """A name server on the host's loopback: answers all with 192.0.2.53."""

    def __init__(self) -> None:
        self.address = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}.53"
        self.asked: list[bytes] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                data, sender = self._socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            self.asked.append(data)
            question = data[12 : data.index(b"\0", 12) + 5]
            head = data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x35"
            self._socket.sendto(head + question + record, sender)

    def close(self) -> None:
        """Stop."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def test_internal_networks_ask_no_upstream_cve_2024_29018(engine: EngineProcess) -> None:
    """A container of internal networks only sends no question out, not even through us; one with a way out does."""
    upstream = Upstream()
    try:
        engine.docker("network", "create", "--internal", "red")
        engine.docker("network", "create", "blue")
        run(engine, "caged", "--network", "red", "--dns", upstream.address)
        run(engine, "free", "--network", "blue", "--dns", upstream.address)
        caged, free = pid_of(engine, "caged"), pid_of(engine, "free")
        assert ask(free, "example.org").values == ["192.0.2.53"]
        asked = len(upstream.asked)
        for name in ("secret.example.org", "free", "caged.example"):
            assert ask(caged, name).code == SERVFAIL
        assert ask(caged, "caged").values == [address(engine, "caged", "red")]
        assert len(upstream.asked) == asked
        engine.docker("network", "connect", "blue", "caged")
        assert ask(caged, "example.org").values == ["192.0.2.53"]
        engine.docker("network", "disconnect", "blue", "caged")
        assert ask(caged, "example.org").code == SERVFAIL
    finally:
        upstream.close()


def test_settings_reach_the_container(engine: EngineProcess) -> None:
    """`--dns-search` and `--dns-option` are in the file; with ndots, single words are not asked beyond."""
    upstream = Upstream()
    try:
        engine.docker("network", "create", "blue")
        flags = ["--dns", upstream.address, "--dns-search", "corp.example", "--dns-option", "ndots:2"]
        run(engine, "one", "--network", "blue", *flags)
        text = engine.docker("exec", "one", "cat", "/etc/resolv.conf").out
        assert text == "nameserver 127.0.0.11\nsearch corp.example\noptions ndots:2\n"
        pid = pid_of(engine, "one")
        answer = ask(pid, "single")
        assert (answer.code, answer.values, upstream.asked) == (NOERROR, [], [])
        assert ask(pid, "single.corp.example").values == ["192.0.2.53"]
    finally:
        upstream.close()


def test_names_while_others_die(engine: EngineProcess) -> None:
    """wherryd dead, wherryd back, netd killed, its monitor killed: names are answered, late at the worst."""
    engine.docker("network", "create", "blue")
    run(engine, "one", "--network", "blue")
    run(engine, "two", "--network", "blue")
    pid, second = pid_of(engine, "one"), address(engine, "two", "blue")
    netd = helper_pid(engine)
    engine.kill()
    for _ in range(10):
        assert ask(pid, "two").values == [second]
    engine.start()
    assert helper_pid(engine) == netd
    assert ask(pid, "two").values == [second]
    kill(netd)
    until(lambda: helper_pid(engine) not in (0, netd), "netd runs again")
    assert ask(pid, "two").values == [second]
    state = json.loads(Path(engine.roots.helper_run("netd"), "state.json").read_text())
    before = helper_pid(engine)
    kill(state["monitor"]["pid"])
    until(lambda: helper_pid(engine) not in (0, before), "netd runs under another monitor")
    assert ask(pid, "two").values == [second]
    engine.kill()
    kill(helper_pid(engine))
    engine.start()
    assert ask(pid, "two").values == [second]
    run(engine, "three", "--network", "blue")
    assert ask(pid, "three").values == [address(engine, "three", "blue")]


def test_many_containers_find_each_other(engine: EngineProcess) -> None:
    """Each of them finds every other (12; 200 where WHERRY_NAMES_CONTAINERS says so)."""
    engine.docker("network", "create", "blue")
    names = [f"box{number}" for number in range(COUNT)]
    for name in names:
        run(engine, name, "--network", "blue")
    shown = json.loads(engine.docker("network", "inspect", "blue").out)[0]["Containers"].values()
    addresses = {entry["Name"]: entry["IPv4Address"].partition("/")[0] for entry in shown}
    pids = engine.docker("inspect", "-f", "{{.State.Pid}}", *names).out.split()
    for pid in pids:
        with inside(int(pid), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(20.0)
            for number, name in enumerate(names):
                assert ask_on(sock, query(name, id_=number)).values == [addresses[name]]
    netd = helper_pid(engine)
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{netd}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    print(f"\nnetd with {COUNT} containers: {int(found[1]) / 1024:.1f} MB")
    assert int(found[1]) < 12 * 1024


def test_nothing_runs_for_the_default_bridge(module_engine: EngineProcess) -> None:
    """No helper for containers of the default bridge; netd is not seen by `ps`, and has ended with an idle engine."""
    engine = module_engine
    engine.stop()
    assert not list(Path(engine.roots.run).glob("helpers/*"))
    engine.start()
    engine.docker("run", "--rm", "busybox", "true")
    assert not list(Path(engine.roots.run).glob("helpers/*"))
    engine.docker("network", "create", "blue")
    run(engine, "one", "--network", "blue")
    until(lambda: helper_pid(engine), "netd runs")
    assert engine.docker("ps", "-aq").out.count("\n") == 1
    netd = helper_pid(engine)
    engine.docker("rm", "-f", "one")
    engine.stop()
    assert subprocess.run(["kill", "-0", str(netd)], check=False, capture_output=True).returncode != 0
    engine.start()
    engine.docker("network", "rm", "blue")


def _fetch(host: str, port: int) -> bytes:
    """What a container's httpd says at a port of the host; empty where nobody does."""
    try:
        with socket.create_connection((host, port), 20) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with client.makefile("rb") as file:
                return file.read().partition(b"\r\n\r\n")[2]
    except (ConnectionRefusedError, ConnectionResetError):
        return b""


def test_a_published_port_is_reached_over_ipv6_loopback(engine: EngineProcess) -> None:
    """`-p` from this host at 127.0.0.1 and ::1, whatever the container has; over a dead wherryd and a dead netd."""
    script = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    engine.docker("run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sh", "-c", script)
    lines = engine.docker("port", "web", "80").out.splitlines()
    assert lines == [f"0.0.0.0:{port}", f"[::]:{port}"]
    until(lambda: _fetch("127.0.0.1", port) == b"hello\n", "httpd listens")
    assert _fetch("::1", port) == b"hello\n"
    engine.kill()
    assert _fetch("::1", port) == b"hello\n"
    engine.start()
    assert _fetch("::1", port) == b"hello\n"
    netd = helper_pid(engine)
    kill(netd)
    assert _fetch("::1", port) == b"hello\n"
    assert helper_pid(engine) != netd
    engine.docker("network", "create", "blue")
    engine.docker("network", "connect", "blue", "web")
    engine.docker("network", "disconnect", "bridge", "web")
    assert _fetch("::1", port) == b"hello\n"
    assert engine.docker("port", "web", "80").out.splitlines() == lines
    again = ["--name", "two", "-p", f"[::1]:{port}:80", "busybox", "true"]
    assert "port is already allocated" in engine.docker("run", *again, check=False).err
    engine.docker("rm", "-f", "two", "web")
    assert _fetch("::1", port) == b""
    engine.docker("run", "-d", "--name", "web", "-p", f"[::1]:{port}:80", "busybox", "sh", "-c", script)
    until(lambda: _fetch("::1", port) == b"hello\n", "it is published on ::1 alone")
    assert _fetch("127.0.0.1", port) == b""
