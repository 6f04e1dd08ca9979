"""The command as people run it: TLS, workers, configuration, signals, collection by hand."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry import conformance
from tests.registry.harness import Client, Registry, digest_of

COMMAND = [sys.executable, "-m", "wherry.registry"]


class Process:
    """`wherry-registry serve` in a process of its own."""

    def __init__(self, root: Path, log: Path, config: dict[str, Any] | None = None, scheme: str = "http") -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        more = []
        if config is not None:
            root.mkdir(parents=True, exist_ok=True)
            (root / "config.yml").write_text(json.dumps(config))  # JSON is YAML
            more = ["--config", str(root / "config.yml")]
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--addr", f"127.0.0.1:{self.port}", "--root", str(root), *more], stderr=file
            )
        self.client = Client("127.0.0.1", self.port)
        deadline = time.monotonic() + 30
        while b'"message": "serving"' not in log.read_bytes():
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start servers; all end with the test."""
    running: list[Process] = []

    def start(**config: Any) -> Process:
        running.append(Process(tmp_path / "root", tmp_path / f"log-{len(running)}", config or None))
        return running[-1]

    yield start
    for process in running:
        process.stop()


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


def test_a_request_under_way_ends_before_the_server_does(serve: Callable[..., Process]) -> None:
    """SIGTERM in the middle of an upload: the upload is answered, then the server ends with 0."""
    server = serve()
    data = os.urandom(100_000)
    location = server.client.start("r")
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        head = f"PUT {location}?digest={digest_of(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        sock.sendall(head.encode() + data[:50_000])
        while server.client("GET", location).headers["Range"] == "x":
            pass
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while b'"ending"' not in server.log.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        sock.sendall(data[50_000:])
        assert sock.recv(100).startswith(b"HTTP/1.1 201")
    assert server.process.wait(20) == 0
    assert server.log.read_text().count('"message":"request"') >= 2


def test_kill_and_go_on(serve: Callable[..., Process]) -> None:
    """After SIGKILL everything that was answered is there, and a session goes on."""
    server = serve()
    digest = server.client.push_image("r", "v1", b"layer")
    location = server.client.start("r")
    server.client("PATCH", location, b"hello")
    server.stop(signal.SIGKILL)
    server = serve()
    assert digest_of(server.client("GET", "/v2/r/manifests/v1").body) == digest
    assert server.client("GET", location).headers["Range"] == "0-4"
    assert server.client("PUT", f"{location}?digest={digest_of(b'hello')}").status == 201


def test_several_workers(serve: Callable[..., Process]) -> None:
    """Workers share one root: what one took, all give; a worker that dies is replaced."""
    server = serve(workers=2)
    for number in range(10):
        digest = server.client.push_image("r", f"v{number}", b"layer %d" % number)
        for _ in range(6):
            assert digest_of(server.client("GET", f"/v2/r/manifests/v{number}").body) == digest
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    assert len(children) == 2

    def counted() -> int:
        page = server.client("GET", "/metrics").body.decode()
        found = re.search(r'requests_total\{method="PUT",route="manifests",status="201"\} (\d+)', page)
        return int(found[1]) if found else 0

    deadline = time.monotonic() + 20
    while counted() != 10:  # each worker tells the others what it counted, twice a second
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(int(children[0]), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while True:
        now = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        if len(now) == 2 and children[0] not in now:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert server.client("GET", "/v2/").status == 200
    deadline = time.monotonic() + 20
    while counted() != 10:  # what the dead one counted is not forgotten; its successor tells of it when it has begun
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert server.stop() == 0


def certify(cert: Path, key: Path) -> str:
    """Write a new certificate for 127.0.0.1 and its key; returns its serial number."""
    options = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=localhost")
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert))
    subprocess.run(["openssl", "req", "-x509", *options, *names], check=True, capture_output=True)
    asked = ["openssl", "x509", "-noout", "-serial", "-in", str(cert)]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip().partition("=")[2]


def shown_serial(port: int) -> str:
    """The serial number of the certificate that a server shows to a new connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(plain) as secure:
        raw = secure.getpeercert(binary_form=True)
    asked = ["openssl", "x509", "-noout", "-serial", "-inform", "DER"]
    return subprocess.run(asked, input=raw, check=True, capture_output=True).stdout.decode().strip().partition("=")[2]


def test_tls(tmp_path: Path, serve: Callable[..., Process]) -> None:
    """With a certificate, HTTPS is spoken, also for large blobs."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certify(cert, key)
    plain = serve()
    data = os.urandom(700_000)
    digest = plain.client.push_blob("r", data)
    plain.stop()
    server = serve(tls={"certificate": str(cert), "key": str(key)})
    context = ssl.create_default_context(cafile=str(cert))
    with urllib.request.urlopen(
        f"https://127.0.0.1:{server.port}/v2/r/blobs/{digest}", context=context, timeout=10
    ) as got:
        assert got.read() == data


def test_a_worker_that_is_starting_outlives_sighup(serve: Callable[..., Process]) -> None:
    """The signal waits until the worker can take it: unhandled it ends a process."""
    server = serve(workers=2)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    first = children.read_text().split()
    os.kill(int(first[0]), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not (new := set(children.read_text().split()) - set(first)):
        assert time.monotonic() < deadline
    number = new.pop()
    while b"worker-socket" not in Path(f"/proc/{number}/cmdline").read_bytes():
        assert time.monotonic() < deadline
    os.kill(int(number), signal.SIGHUP)  # long before an interpreter has a handler
    while "opened anew" not in server.log.read_text():
        assert time.monotonic() < deadline, server.log.read_text()
    assert number in children.read_text().split()
    assert server.log.read_text().count("worker ended") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_tls_is_read_anew(tmp_path: Path, serve: Callable[..., Process], workers: int) -> None:
    """SIGHUP takes a renewed certificate into service in every worker; a broken file changes nothing."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    first = certify(cert, key)
    server = serve(tls={"certificate": str(cert), "key": str(key)}, workers=workers)
    assert shown_serial(server.port) == first
    second = certify(cert, key)
    assert shown_serial(server.port) == first != second
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while {shown_serial(server.port) for _ in range(6)} != {second}:
        assert time.monotonic() < deadline, server.log.read_text()
    # one that is still starting would read the broken file first
    while server.log.read_text().count('"certificate and audit log opened anew') < workers:
        assert time.monotonic() < deadline, server.log.read_text()
    cert.write_text("no certificate")
    server.process.send_signal(signal.SIGHUP)
    while server.log.read_text().count('"not reloaded"') < workers:
        assert time.monotonic() < deadline, server.log.read_text()
    assert shown_serial(server.port) == second and server.process.poll() is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense: 1", "unknown field `nonsense`"),
        ("gc: {intervall: 1h}", "unknown field `intervall`"),
        ("gc: {interval: soon}", "not a duration"),
        ("addr: nowhere", "HOST:PORT is needed"),
        ("workers: many", "workers"),
        ("- a list", "not a mapping"),
        ("a: [", "while parsing"),
        ("log: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("tls: {certificate: /none, key: /none}", "tls"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, text: str, words: str) -> None:
    """A mistake in the file is named in one line, and nothing is served."""
    (tmp_path / "config.yml").write_text(text)
    done = run("serve", "--config", str(tmp_path / "config.yml"), "--root", str(tmp_path / "root"))
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_gc_says_what_it_freed(registry: Registry) -> None:
    """`gc` beside a running server frees what nothing needs, tells the bytes, and leaves the rest."""
    registry.push_image("r", "v1", b"kept")
    registry.push_blob("r", b"x" * 1000)
    registry.start("r")
    root = str(registry.root)
    assert run("gc", "--root", root).stdout.startswith("freed 0 bytes: 0 blobs")
    done = run("gc", "--root", root, "--delay", "0", "--json")
    freed = json.loads(done.stdout)
    assert (freed["blobs"], freed["size"], freed["damaged"]) == (1, 1000, [])
    assert registry("GET", f"/v2/r/blobs/{digest_of(b'x' * 1000)}").status == 404
    assert registry("GET", f"/v2/r/blobs/{digest_of(b'kept')}").body == b"kept"


def test_the_launcher(tmp_path: Path) -> None:
    """The installed command says what it did, also into a pipe."""
    launcher = Path(__file__).parent.parent.parent / "scripts/wherry-registry"
    done = subprocess.run([launcher, "gc", "--root", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:13], done.stderr) == (0, "freed 0 bytes", "")


def test_gc_leaves_a_damaged_repository_alone(registry: Registry) -> None:
    """Where a manifest cannot be read nobody knows what it needs: nothing goes, and it is said."""
    digest = registry.push_image("r", "v1", b"kept")
    spare = registry.push_blob("r", b"spare")
    path = registry.root / f"repositories/r/blobs/sha256/{digest[7:]}"
    path.write_bytes(b"{")
    done = run("gc", "--root", str(registry.root), "--delay", "0")
    assert done.returncode == 1
    assert "r: not collected" in done.stderr
    assert registry("HEAD", f"/v2/r/blobs/{spare}").status == 200


def test_a_manifest_that_another_collection_took_is_no_damage(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that goes between the look at the index and the reading of it is looked for anew, not mourned."""
    digest = registry.push_image("r", "v1", b"layer")
    registry.push_image("r", "v2", b"layer")
    repositories = registry.service.repositories
    read = repositories.read_manifest

    def late(name: str, of: str) -> bytes:
        if digest in repositories.load("r").manifests:
            monkeypatch.setattr(repositories, "read_manifest", read)
            repositories.delete_manifest("r", digest)
            (registry.root / f"repositories/r/blobs/sha256/{digest[7:]}").unlink()
            return read(name, digest)
        return read(name, of)

    monkeypatch.setattr(repositories, "read_manifest", late)
    assert registry.service.collector.collect().damaged == []
    assert registry("GET", "/v2/r/manifests/v2").status == 200


def test_a_newer_root_is_refused(tmp_path: Path) -> None:
    """A root of a newer version is refused by name."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root/schema").write_text("99\n")
    done = run("check", "--root", str(tmp_path / "root"))
    assert (done.returncode, "has schema 99" in done.stderr) == (1, True)


def test_the_audit_log(start_registry: Callable[..., Registry], tmp_path: Path) -> None:
    """Pushes and deletions are written, each with the request's id."""
    registry = start_registry(audit={"file": str(tmp_path / "audit/log")})
    digest = registry.push_image("r", "v1", b"layer")
    answer = registry("DELETE", "/v2/r/manifests/v1")
    lines = [json.loads(line) for line in (tmp_path / "audit/log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["blob.push", "blob.push", "manifest.push", "tag.delete"]
    assert lines[-1]["request"] == answer.headers["X-Request-Id"]
    assert (lines[-1]["digest"], lines[-1]["tags"]) == (digest, ["v1"])


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_the_layout_from_the_disk(registry: Registry) -> None:
    """What another tool reads over HTTP it also reads from the repository's directory."""
    layer = b"layer"
    registry.push_image("team/app", "v1", layer)
    url = f"docker://{registry.host}:{registry.port}/team/app:v1"
    over = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", url], capture_output=True, check=True)
    layout = f"oci:{registry.root}/repositories/team+app:v1"
    direct = subprocess.run(["skopeo", "inspect", "--raw", layout], capture_output=True, check=True)
    assert json.loads(over.stdout) == json.loads(direct.stdout)


@pytest.mark.root
@pytest.mark.long
def test_conformance(serve: Callable[..., Process], tmp_path: Path) -> None:
    """The distribution specification's own suite, all workflows on: no failure, at most 4 skips."""
    server = serve()
    environment = {
        **os.environ,
        "OCI_REGISTRY": f"127.0.0.1:{server.port}",
        "OCI_TLS": "disabled",
        "OCI_VERSION": "1.1",
        "OCI_RESULTS_DIR": str(tmp_path / "results"),
    }
    done = subprocess.run(
        [conformance.program()], env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    counts = {}
    for line in done.stdout.splitlines():
        name, dots, count = line.strip().partition("..")
        if dots and count.rpartition(":")[2].strip().isdigit():
            counts[name] = int(count.rpartition(":")[2])
    assert done.returncode == 0, counts
    assert (counts["FAIL"], counts["Error"]) == (0, 0)
    assert counts["Pass"] >= 687
    assert counts["Skip"] <= 4
