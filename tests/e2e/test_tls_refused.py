"""The API over TLS: who is refused, floods, certificates that change, kills, and TCP without it."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import SERVER, Authority
from tests.e2e.dockerd import ALONE, dockerd
from tests.e2e.harness import BIN, WHERRYD, running, until
from tests.e2e.secured import Secured, engine, own, secured_engine

__all__ = ["engine", "own", "secured_engine"]

pytestmark = pytest.mark.root

WHERRY = str(BIN / "wherry")
FLOOD = 400


@contextlib.contextmanager
def talking(*argv: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command for as long as the block lasts."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[bytes]", line: bytes) -> bytes:
    """Give a command a line; returns the next one of its output."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    return process.stdout.readline()


@pytest.mark.parametrize("kind", ["none", "foreign", "expired", "server"])
def test_attack_other_clients_are_refused(engine: Secured, kind: str, tmp_path: Path) -> None:
    """Without a certificate, with another authority's, an expired one, one for servers: docker and wherry say why."""
    words = {
        "none": "tls: certificate required",
        "foreign": "tls: unknown certificate authority",
        "expired": "tls: expired certificate",
        "server": "tls: unsupported certificate",
    }[kind]
    authority = Authority(tmp_path, "other") if kind == "foreign" else engine.authority
    pair = authority.sign(f"bad-{kind}", SERVER if kind == "server" else None, expired=kind == "expired")
    flags = engine.words(pair)
    if kind == "none":
        flags = [flag for flag in flags if not flag.startswith(("--tlscert", "--tlskey"))]
    for program in ("docker", WHERRY):
        done = engine.run(program, *flags, "ps", code=1, env={"HOME": str(tmp_path)})
        assert words in done.err
        assert not done.out


def test_a_server_that_is_not_the_one_is_refused(engine: Secured, tmp_path: Path) -> None:
    """Another authority; plain HTTP to a server with TLS, and the other way round."""
    other = Authority(tmp_path, "other")
    for program in ("docker", WHERRY):
        done = engine.run(program, *engine.words(authority=other.path), "ps", code=1)
        assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in done.err
        done = engine.run(program, "-H", engine.tcp, "ps", code=1)
        assert done.err == "Error response from daemon: Client sent an HTTP request to an HTTPS server.\n"
    with socket.create_server(("127.0.0.1", 0)) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(100)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answered = pool.submit(answer)
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        done = (
            engine.run(WHERRY, *engine.words(), "-H", address, "ps", code=1)
            if False
            else engine.run(WHERRY, "-H", address, *engine.words()[2:], "ps", code=1)
        )
        answered.result(10)
    assert "http: server gave HTTP response to HTTPS client" in done.err


def test_the_words_are_dockerds(engine: Secured, tmp_path: Path) -> None:
    """What the docker command prints with dockerd behind the same certificates."""
    files = engine.files
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tcp = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    flags = ("--tlsverify", f"--tlscacert={files}/ca.pem", f"--tlscert={files}/server.pem")
    key = f"--tlskey={files}/server-key.pem"
    asked = [
        ["-H", "ADDRESS", "ps"],
        ["--tlsverify", "-H", "ADDRESS", f"--tlscacert={files}/ca.pem", "ps"],
        ["--tlsverify", "-H", "ADDRESS", f"--tlscacert={files}/none.pem", "ps"],
        [*engine.words()[2:], "-H", "ADDRESS", "info", "-f", "{{json .Warnings}}"],
        [*engine.words()[2:], "-H", "ADDRESS", "ps", "-aq"],
        [*engine.words()[2:], "-H", "ADDRESS", "exec", "none", "true"],
    ]

    def answers(address: str) -> list[tuple[int, str, str]]:
        found = []
        for argv in asked:
            full = ["docker", *(address if word == "ADDRESS" else word for word in argv)]
            done = engine.run(*full, code=None, env={"HOME": str(tmp_path)})
            # which of the client's goroutines reads the server's alert first is chance
            words = done.err.replace("readLoopPeekFailLocked: ", "")
            found.append((done.code, done.out, words.replace(address.removeprefix("tcp://"), "ADDRESS")))
        return found

    (tmp_path / "dockerd").mkdir()
    with dockerd(tmp_path / "dockerd", *ALONE, *flags, key, "-H", tcp, shared=[files]):
        theirs = answers(tcp)
    ours = answers(engine.tcp)
    # warnings about the host are each engine's own; neither has one about the listener
    assert not [found for found in (theirs, ours) if "accessible" in found[3][1]]
    theirs[3] = ours[3]
    assert ours == theirs


def test_attack_a_flood_of_slow_handshakes(engine: Secured) -> None:
    """Connections that send a byte, or nothing: the unix socket and good clients of TLS are answered meanwhile."""
    flood = []
    try:
        for number in range(FLOOD):
            sock = engine.connect()
            flood.append(sock)
            if number % 2:
                sock.sendall(b"\x16\x03\x01")
        began = time.monotonic()
        engine.docker("version")
        engine.over("version")
        assert time.monotonic() - began < 10  # a handshake's time
        # the oldest ones had to go for the newer ones
        assert select.select(flood[:1], [], [], 10)[0]
        limits = json.loads(engine.docker("info", "--format", "{{json .}}").out)
        assert limits["Containers"] == 0
    finally:
        for sock in flood:
            sock.close()
    lines = [line for line in engine.log.read_text().splitlines() if "TLS handshake error" in line]
    assert lines and len(lines) < 100


def test_attack_a_web_page_calls(engine: Secured) -> None:
    """A browser that has the certificate carries no page's requests; a name with dots is the certificate's to judge."""

    def ask(**headers: str) -> int:
        connection = http.client.HTTPSConnection("127.0.0.1", engine.port, context=engine.context(), timeout=30)
        try:
            connection.request("GET", "/_ping", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    assert ask() == 200
    assert ask(Host="docker.example.com:2376") == 200
    assert ask(Origin="https://evil.example") == 403
    assert ask(**{"Sec-Fetch-Site": "cross-site"}) == 403


def test_the_process_has_no_powers(engine: Secured) -> None:
    """Nobody's, without capabilities or a way to gain some; its memory, with the key, is not for others of nobody."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{engine.front}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert status["NoNewPrivs"] == "1"
    assert not status["Groups"].strip()
    assert all(int(status[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"))
    assert Path(f"/proc/{engine.front}/environ").stat().st_uid == 0


def test_sighup_reads_the_certificates_anew(own: Secured) -> None:
    """New clients see the new certificate, and need one of the new authority; what cannot be used changes nothing."""

    def serial() -> int:
        with own.context().wrap_socket(own.connect(), server_hostname="localhost") as secured:
            found = secured.getpeercert()
            assert found is not None
            return int(str(found["serialNumber"]), 16)

    first = serial()
    name = own.over("run", "-d", "busybox", "sleep", "1000").out.strip()
    with talking("docker", *own.words(), "exec", "-i", name, "cat") as staying:
        assert said(staying, b"before\n") == b"before\n"
        own.server = own.authority.sign("server", SERVER)
        os.kill(own.pid, signal.SIGHUP)
        until(lambda: serial() != first, "the new certificate is shown")
        second = serial()
        assert said(staying, b"after\n") == b"after\n"
        assert staying.stdin is not None
        staying.stdin.close()
        assert staying.wait(20) == 0
    own.server.key.write_text("no key\n")
    os.kill(own.pid, signal.SIGHUP)
    until(lambda: "certificates not read anew" in own.log.read_text(), "the refusal is in the log")
    assert serial() == second
    old = own.client
    own.authority = Authority(own.files)
    own.server = own.authority.sign("server", SERVER)
    own.client = own.authority.sign("client-2")
    os.kill(own.pid, signal.SIGHUP)
    until(lambda: own.over("version", code=None).code == 0, "the new authority's clients are let in")
    assert "tls: unknown certificate authority" in own.run("docker", *own.words(old), "ps", code=1).err


def test_kills(own: Secured) -> None:
    """The TLS process that is killed is replaced; streams outlive a wherryd that is killed."""
    killed = own.front
    os.kill(killed, signal.SIGKILL)
    until(lambda: own.over("version", code=None).code == 0, "another one serves")
    assert own.front != killed
    name = own.over("run", "-di", "busybox", "cat").out.strip()
    with talking("docker", *own.words(), "attach", name) as attached:
        assert said(attached, b"one\n") == b"one\n"
        front = own.front
        own.kill()
        own.start()
        assert said(attached, b"two\n") == b"two\n"
        own.over("version")
        assert own.front != front
        assert attached.stdin is not None
        attached.stdin.close()
        attached.wait(20)
    until(lambda: not Path(f"/proc/{front}").exists(), "the first one has ended with its last stream")


def test_stopping_leaves_no_process(own: Secured) -> None:
    """SIGTERM: the port is free, and the TLS process ends."""
    front = own.front
    own.over("version")
    own.stop()
    until(lambda: not Path(f"/proc/{front}").exists(), "it has ended")
    with pytest.raises(ConnectionRefusedError):
        own.connect()
    own.start()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "it has no TLS, so that whoever reaches it is root on this machine: set --tlsverify"),
        (("--tls",), "tls alone asks clients for no certificate"),
        (("--tlsverify=false",), "tls alone asks clients for no certificate"),
        (("--tlsverify", "--tlscacert=/none"), "invalid TLS configuration: open /none: no such file or directory"),
        (("--tlsverify", "--tlscacert={key}"), "could not read CA certificate"),
        (("--tlsverify", "--tlskey={other}"), "could not load X509 key pair"),
    ],
)
def test_listeners_that_are_refused(tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    """On loopback, too: before anything is touched."""
    authority = Authority(tmp_path)
    server, other = authority.sign("server", SERVER), authority.sign("other")
    files = {"--tlscacert": authority.path, "--tlscert": server.certificate, "--tlskey": server.key}
    given = [flag.format(key=server.key, other=other.key) for flag in flags]
    rest = [f"{name}={path}" for name, path in files.items() if not any(flag.startswith(name) for flag in given)]
    roots = (f"--data-root={tmp_path}/data", f"--exec-root={tmp_path}/run")
    ran = subprocess.run(
        [WHERRYD, *roots, "-H", "tcp://127.0.0.1:0", *given, *rest],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flags", [(), ("--tls",)])
def test_insecure_plain_tcp_is_by_its_flag(flags: tuple[str, ...]) -> None:
    """Without TLS, or without client certificates: it works, and `info` warns in dockerd's words."""
    made = Secured("--insecure-plain-tcp", *flags)
    with running(made, busybox=False):
        client = ["--tls"] if flags else []
        env = {"HOME": str(made.files)}
        (made.files / ".docker").mkdir()
        shutil.copy(made.authority.path, made.files / ".docker")
        done = made.run("docker", "-H", made.tcp, *client, "info", "-f", "{{json .Warnings}}", env=env)
        how = "https://{} without TLS client verification." if flags else "http://{} without encryption."
        assert "WARNING: API is accessible on " + how.format(f"127.0.0.1:{made.port}") in json.loads(done.out)[0]
        made.run(WHERRY, "-H", made.tcp, *client, "version", env=env)
