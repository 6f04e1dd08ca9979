"""A registry without accounts: who may reach it, and how the first account closes it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.registry.harness import Client
from tests.registry.test_server import Process, run

PASSWORD = b"correct horse battery\n"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start servers; all end with the test."""
    running: list[Process] = []

    def start(**config: object) -> Process:
        running.append(Process(tmp_path / "root", tmp_path / f"log-{len(running)}", dict(config) or None))
        return running[-1]

    yield start
    for process in running:
        process.process.kill()
        process.process.wait(30)


def account(root: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Run `wherry-registry user` or `token`."""
    command = [sys.executable, "-m", "wherry.registry", arguments[0], *arguments[1:], "--root", str(root)]
    return subprocess.run(command, input=PASSWORD, capture_output=True, check=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_attack_the_first_account_closes_an_open_registry(
    serve: Callable[..., Process], tmp_path: Path, workers: int
) -> None:
    """From the moment on at which `user add` returns, no worker takes a push without a credential."""
    server = serve(workers=workers)
    assert b"anybody who reaches it may push" in server.log.read_bytes()
    server.client.push_image("r", "v1", b"layer")
    location = server.client.start("r")
    assert account(tmp_path / "root", "user", "add", "--admin", "--password-stdin", "alice").returncode == 0
    for _ in range(8):  # each on a connection of its own: both workers
        assert server.client("POST", "/v2/r/blobs/uploads/").status == 401
        assert server.client("PATCH", location, b"x").status == 401
        assert server.client("GET", "/v2/r/manifests/v1").status == 401
    assert server.client("GET", "/token?scope=repository:r:push").status == 200
    assert "Traceback" not in server.log.read_text()
    assert server.stop() == 0


def test_reading_makes_no_accounts(serve: Callable[..., Process], tmp_path: Path) -> None:
    """`user ls`, `token --list` and commands about a user that is not there leave an open registry open."""
    server = serve()
    root = tmp_path / "root"
    assert account(root, "user", "ls").returncode == 0
    assert account(root, "token", "--list").returncode == 0
    for arguments in (
        ("user", "passwd", "--password-stdin", "alice"),
        ("user", "rm", "alice"),
        ("user", "admin", "alice"),
        ("user", "invite"),
        ("token", "--revoke", "a+b"),
        ("token", "--user", "alice", "a/b", "pull"),
        ("token", "Not A Name", "pull"),
        ("token", "a/b", "fly"),
    ):
        assert account(root, *arguments).returncode == 1, arguments
    assert not (root / "accounts.db").exists()
    server.client.push_blob("r", b"x")


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example.com"}, {"Sec-Fetch-Site": "cross-site"}])
def test_attack_a_web_page_pushes(serve: Callable[..., Process], headers: dict[str, str]) -> None:
    """A page that the operator visits writes nothing to the registry of their machine."""
    server = serve()
    server.client.push_image("r", "v1", b"layer")
    for method, path in (("POST", "/v2/r/blobs/uploads/"), ("DELETE", "/v2/r/manifests/v1")):
        assert server.client(method, path, headers=headers).status == 403
    assert server.client("GET", "/v2/r/manifests/v1").status == 200


def test_attack_a_name_that_was_bound_again(serve: Callable[..., Process]) -> None:
    """A page whose own name suddenly means 127.0.0.1 reads and writes nothing, whatever it calls itself."""
    server = serve(hosts=["registry.mine.org"])
    for host, status in (
        ("evil.example.com", 403),
        (f"evil.example.com:{server.port}", 403),
        ("registry.mine.org", 200),
        (f"localhost:{server.port}", 200),
        ("registry.local:5000", 200),
        ("registry", 200),
        ("[::1]:5000", 200),
    ):
        assert server.client("GET", "/v2/", headers={"Host": host}).status == status, host


def test_without_accounts_only_on_loopback(tmp_path: Path) -> None:
    """A registry without accounts is not offered to a network, unless a flag says so."""
    root = str(tmp_path / "root")
    done = run("serve", "--root", root, "--addr", "0.0.0.0:0")
    assert done.returncode == 1
    assert "anybody who reaches that address could push" in done.stderr and "--without-accounts" in done.stderr
    log = tmp_path / "log"
    command = [sys.executable, "-m", "wherry.registry", "serve", "--root", root, "--addr", "0.0.0.0:0"]
    with open(log, "wb") as file:
        process = subprocess.Popen([*command, "--without-accounts"], stderr=file)
    try:
        deadline = time.monotonic() + 30
        while b'"serving"' not in log.read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        assert "may push" in log.read_text()
    finally:
        process.kill()
        process.wait(30)


def test_killing_the_supervisor_ends_its_workers(serve: Callable[..., Process]) -> None:
    """No worker serves on without anybody who would end or replace it."""
    server = serve(workers=2)
    number = server.process.pid
    children = [int(word) for word in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    assert len(children) == 2
    server.stop(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(_runs(child) for child in children):
        assert time.monotonic() < deadline, "a worker serves on"
        time.sleep(0.05)
    with pytest.raises(ConnectionRefusedError):
        Client("127.0.0.1", server.port)("GET", "/v2/")


def _runs(number: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
