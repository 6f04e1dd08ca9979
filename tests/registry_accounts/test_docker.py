"""A real docker command with a real dockerd: login, push, pull, search."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.dockerd import ALONE, Dockerd
from tests.registry_accounts.serving import PASSWORD, Registry

pytestmark = pytest.mark.root


class Docker(Dockerd):
    """A dockerd of its own, and the command."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, *ALONE, "--storage-driver=vfs")
        self.environment = {**os.environ, "DOCKER_HOST": self.host, "DOCKER_CONFIG": str(folder / "config")}
        self.environment.pop("DOCKER_CONTEXT", None)

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


@pytest.fixture
def docker() -> Iterator[Docker]:
    """A dockerd; its paths are short, for the socket's sake."""
    folder = Path(tempfile.mkdtemp(prefix="wherry-docker-"))
    docker = Docker(folder)
    try:
        yield docker
    finally:
        docker.end()
        shutil.rmtree(folder, ignore_errors=True)


def test_login_push_pull_search(docker: Docker, shared: Registry) -> None:
    """Members find, pull and push a private repository, strangers and nobody in particular do not."""
    host = shared.host
    image = f"{host}/alice/docked:v1"
    archive = docker.base / "root.tar"
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
