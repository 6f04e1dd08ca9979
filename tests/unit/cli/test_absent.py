"""What people are told who type a command of Docker's that is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_COMMAND = Path(__file__).resolve().parents[3] / "scripts/wherry"


def _typed(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: it takes over the signals of the one that it is in."""
    kept = {name: value for name, value in os.environ.items() if name not in {"WHERRY_HOST", "DOCKER_HOST"}}
    return subprocess.run(
        [sys.executable, _COMMAND, *words], env={**kept, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plugin", "ls"], "'wherry plugin' is not supported: there are no plugins"),
        (["swarm", "init"], "'wherry swarm' is not supported: there is no swarm"),
        (["compose", "up"], "DOCKER_HOST=unix:///elsewhere.sock docker compose"),
        (["-H", "tcp://other:2375", "buildx", "ls"], "DOCKER_HOST=tcp://other:2375 docker buildx"),
    ],
)
def test_the_reason_and_the_address_are_right(words: list[str], told: str) -> None:
    """The engine in hints is the one that was chosen."""
    done = _typed(words, WHERRY_HOST="unix:///elsewhere.sock")
    assert done.returncode == 1
    assert told in done.stderr


def test_without_a_choice_it_is_the_default_socket() -> None:
    """As before."""
    assert "DOCKER_HOST=unix:///run/wherry/wherry.sock docker compose" in _typed(["compose"]).stderr
