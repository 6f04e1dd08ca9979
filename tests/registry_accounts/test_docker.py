"""A real docker command with a real dockerd: login, push, pull, search."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry_accounts.serving import PASSWORD, Registry

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        not (shutil.which("docker") and shutil.which("dockerd", path="/usr/sbin:/usr/bin:/usr/local/bin")),
        reason="docker is not installed",
    ),
]


class Docker:
    """A dockerd of its own, and the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        socket = f"unix://{folder}/d.sock"
        self.environment = {**os.environ, "DOCKER_HOST": socket, "DOCKER_CONFIG": str(folder / "config")}
        self.environment.pop("DOCKER_CONTEXT", None)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        self.daemon = subprocess.Popen(
            [
                "dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "-H", socket,
                "--pidfile", f"{folder}/pid", "--bridge=none", "--iptables=false", "--storage-driver=vfs",
            ],
            env={**self.environment, "PATH": f"/usr/sbin:{os.environ['PATH']}"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        os.close(log)
        deadline = time.monotonic() + 30
        while self.run("version").returncode:
            assert self.daemon.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.2)

    def run(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """One command."""
        return subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            input=text,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def ok(self, *arguments: str, text: str = "") -> str:
        """One command that must succeed; returns what it printed."""
        done = self.run(*arguments, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End the daemon."""
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(30)


@pytest.fixture
def docker() -> Iterator[Docker]:
    """A dockerd; its paths are short, for the socket's sake."""
    folder = Path(tempfile.mkdtemp(prefix="wherry-docker-"))
    docker = Docker(folder)
    try:
        yield docker
    finally:
        docker.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_login_push_pull_search(docker: Docker, shared: Registry) -> None:
    """Members find, pull and push a private repository, strangers and nobody in particular do not."""
    host = shared.host
    image = f"{host}/alice/docked:v1"
    archive = docker.folder / "root.tar"
    with archive.open("wb") as file:
        subprocess.run(["tar", "-C", "/etc", "-c", "hostname"], stdout=file, check=True)
    docker.ok("import", str(archive), image)

    def log_in(name: str, password: str = PASSWORD) -> int:
        return docker.run("login", "-u", name, "--password-stdin", host, text=password).returncode

    def finds() -> bool:
        return "alice/docked" in docker.ok("search", "--format", "{{.Name}}", f"{host}/docked")

    assert docker.run("push", image).returncode != 0
    assert log_in("alice", "wrong password") != 0
    assert log_in("alice") == 0
    docker.ok("push", image)
    assert finds()
    assert log_in("bob") == 0
    assert not finds()
    refused = docker.run("push", image)
    assert refused.returncode != 0 and "denied" in refused.stderr
    docker.ok("rmi", image)
    assert docker.run("pull", image).returncode != 0
    shared.known.shelves.set_member("alice/docked", "bob", "reader")
    assert finds()
    docker.ok("pull", image)
    assert docker.run("push", image).returncode != 0
    docker.ok("logout", host)
    assert not finds()
    shared.known.shelves.set("alice/docked", public=True)
    assert finds()
    docker.ok("rmi", image)
    docker.ok("pull", image)
