"""Run a container for a test: DOCKER_HOST=unix:///run/wherry/wherry.sock python -m pytest examples/pytest."""

from collections.abc import Iterator

import docker
import pytest
from docker.models.containers import Container


@pytest.fixture
def shell() -> Iterator[Container]:
    """A container that is there for one test."""
    client = docker.from_env()
    container = client.containers.run("busybox", ["sleep", "60"], detach=True, init=True)
    yield container
    container.remove(force=True, v=True)
    client.close()


def test_a_file_counts(shell: Container) -> None:
    """Each exec sees what the one before has written."""
    for expected in (b"1\n", b"2\n", b"3\n"):
        code, output = shell.exec_run(["sh", "-c", "echo x >>/count; wc -l </count"])
        assert (code, output) == (0, expected)


def test_a_container_is_fresh(shell: Container) -> None:
    """Nothing of another test is left."""
    assert shell.exec_run(["test", "-e", "/count"]).exit_code == 1
