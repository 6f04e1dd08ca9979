"""The API over TLS: Docker's clients and ours, with their streams."""

import concurrent.futures
import hashlib
import io
import os
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.harness import BIN, until
from tests.e2e.secured import Secured, engine, own, secured_engine
from tests.e2e.terminal import Terminal

__all__ = ["engine", "own", "secured_engine"]

pytestmark = pytest.mark.root

WHERRY = str(BIN / "wherry")
# a file of random bytes and its digest; the log would take longer than the stream
NOISE = "dd if=/dev/urandom of=/noise bs=1M count=100 2>/dev/null; sha256sum </noise >&2; cat /noise"


@pytest.mark.parametrize("program", ["docker", WHERRY])
def test_streams_and_half_closes(engine: Secured, program: str) -> None:
    """`run -i` sees the end of stdin, `exec -i` answers after it, output and errors stay apart."""
    done = engine.over("run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo end", stdin=b"in\n", program=program)
    assert done.out == "in\nend\n"
    name = engine.over("run", "-d", "busybox", "sleep", "1000", program=program).out.strip()
    noise = os.urandom(3 << 20)
    done = engine.over("exec", "-i", name, "sh", "-c", "sha256sum; echo err >&2", stdin=noise, program=program)
    assert done.out.split()[0] == hashlib.sha256(noise).hexdigest()
    assert done.err == "err\n"
    assert engine.over("exec", name, "sh", "-c", "exit 7", code=7, program=program).out == ""


@pytest.mark.parametrize("program", ["docker", WHERRY])
def test_a_terminal(engine: Secured, program: str) -> None:
    """`exec -it` on a pseudo terminal: keys, size, exit code; `attach` is left by its keys."""
    name = engine.over("run", "-dit", "busybox", "sh").out.strip()
    terminal = Terminal([program, *engine.words(), "exec", "-it", name, "sh"], engine.env, (30, 111))
    try:
        terminal.expect("# ")
        terminal.type("stty size\r")
        terminal.expect("30 111")
        terminal.type("exit 5\r")
        assert terminal.wait() == 5
    finally:
        terminal.close()
    terminal = Terminal([program, *engine.words(), "attach", name], engine.env)
    try:
        terminal.ready()
        terminal.type("echo a''b\r")
        terminal.expect("ab")
        terminal.type("\x10\x11")
        terminal.wait()
    finally:
        terminal.close()
    assert engine.docker("inspect", "-f", "{{.State.Status}}", name).out.strip() == "running"


def test_much_output_is_whole(engine: Secured) -> None:
    """100 MB through `docker run`, by its digest."""
    ran = subprocess.run(
        ["docker", *engine.words(), "run", "--rm", "--log-driver=none", "busybox", "sh", "-c", NOISE],
        capture_output=True,
        check=True,
        timeout=300,
    )
    assert len(ran.stdout) == 100 << 20
    assert hashlib.sha256(ran.stdout).hexdigest() == ran.stderr.decode().split()[0]


def test_logs_are_followed_until_ctrl_c(engine: Secured) -> None:
    """`logs -f` shows what comes, and ends with the client; the engine has let go of it then."""
    name = engine.over("run", "-d", "busybox", "sh", "-c", "echo one; sleep 1000").out.strip()
    before = len(os.listdir(f"/proc/{engine.front}/fd"))
    following = subprocess.Popen(["docker", *engine.words(), "logs", "-f", name], stdout=subprocess.PIPE)
    try:
        assert following.stdout is not None
        assert following.stdout.readline() == b"one\n"
        following.send_signal(signal.SIGINT)
        following.wait(20)
    finally:
        following.kill()
        following.communicate()
    until(lambda: len(os.listdir(f"/proc/{engine.front}/fd")) <= before, "the connection is closed")


def test_copies_builds_loads_and_events(engine: Secured, tmp_path: Path) -> None:
    """Bodies in both directions, chunks, progress as it comes, and an answer without end."""
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY file /file\nRUN sha256sum /file\n")
    noise = os.urandom(5 << 20)
    (tmp_path / "file").write_bytes(noise)
    events = subprocess.Popen(
        ["docker", *engine.words(), "events", "--format", "{{.Action}}"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert events.stdout is not None
        built = engine.run(
            *("docker", *engine.words(), "build", "-t", "tls:1", str(tmp_path)), env={"DOCKER_BUILDKIT": "0"}
        )
        assert hashlib.sha256(noise).hexdigest() in built.out
        name = engine.over("create", "tls:1", "true").out.strip()
        while events.stdout.readline() != "create\n":
            continue
    finally:
        events.kill()
        events.communicate()
    engine.over("cp", f"{name}:/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == noise
    engine.over("cp", str(tmp_path / "back"), f"{name}:/again")
    engine.over("save", "-o", str(tmp_path / "saved.tar"), "tls:1")
    engine.over("rm", name)
    engine.over("rmi", "tls:1")
    assert "Loaded image: tls:1" in engine.over("load", "-i", str(tmp_path / "saved.tar")).out
    done = engine.over("pull", "127.0.0.1:1/none", code=1)
    assert "connection refused" in done.err


def test_dial_stdio(engine: Secured) -> None:
    """`docker system dial-stdio` and ours join stdio with the connection, both ends."""
    for program in ("docker", WHERRY):
        done = engine.over(
            *("system", "dial-stdio"),
            stdin=b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
            program=program,
        )
        assert done.out.startswith("HTTP/1.1 200 OK") and done.out.endswith("OK"), (program, done)


def test_the_environment_chooses_tls(engine: Secured) -> None:
    """DOCKER_TLS_VERIFY and DOCKER_CERT_PATH; WHERRY_'s come first for ours; 2376 is the port of TLS."""
    for program in ("docker", WHERRY):
        ran = subprocess.run([program, "version"], env=engine.secure_env, capture_output=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
    other = {**engine.secure_env, "DOCKER_CERT_PATH": "/nowhere", "WHERRY_CERT_PATH": str(engine.files)}
    assert subprocess.run([WHERRY, "version"], env=other, capture_output=True, check=False, timeout=60).returncode == 0
    lost = subprocess.run(
        [WHERRY, "-H", "tcp://127.0.0.1", "ps"],
        env={**engine.secure_env, "WHERRY_CERT_PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert lost.returncode == 1
    assert "open /nowhere/ca.pem: no such file or directory" in lost.stderr


def test_docker_py(engine: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python client: requests, a stream, an archive."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)  # requests prefers them to what docker-py says
    tls = docker.tls.TLSConfig(
        client_cert=(str(engine.client.certificate), str(engine.client.key)),
        ca_cert=str(engine.authority.path),
        verify=True,
    )
    client = docker.DockerClient(base_url=engine.tcp, tls=tls, timeout=60)
    try:
        container: Any = client.containers.create("busybox", ["sh", "-c", "cat /in/file; echo out"])
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo("in/file")
            entry.size = 3
            archive.addfile(entry, io.BytesIO(b"in\n"))
        assert container.put_archive("/", buffer.getvalue())
        container.start()
        assert container.wait(timeout=60)["StatusCode"] == 0
        assert b"".join(container.logs(stream=True, follow=True)) == b"in\nout\n"
        container.remove()
    finally:
        client.close()


def test_twenty_clients_at_once(engine: Secured) -> None:
    """Each gets its own output."""

    def one(number: int) -> tuple[str, str]:
        done = engine.over("run", "-i", "--rm", "busybox", "cat", stdin=f"client {number}".encode())
        return f"client {number}", done.out

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert all(wanted == got for wanted, got in pool.map(one, range(20)))
