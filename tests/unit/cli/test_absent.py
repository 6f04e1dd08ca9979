"""What people are told who type a command of Docker's that is not there."""

import pytest

from wherry.cli import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plugin", "ls"], "'wherry plugin' is not supported: there are no plugins"),
        (["swarm", "init"], "'wherry swarm' is not supported: there is no swarm"),
        (["compose", "up"], "DOCKER_HOST=unix:///elsewhere.sock docker compose"),
        (["-H", "tcp://other:2375", "buildx", "ls"], "DOCKER_HOST=tcp://other:2375 docker buildx"),
    ],
)
def test_the_reason_and_the_address_are_right(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The engine in hints is the one that was chosen."""
    monkeypatch.setenv("WHERRY_HOST", "unix:///elsewhere.sock")
    assert main.main(words) == 1
    assert told in capfd.readouterr().err


def test_without_a_choice_it_is_the_default_socket(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As before."""
    monkeypatch.delenv("WHERRY_HOST", raising=False)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    main.main(["compose"])
    assert "DOCKER_HOST=unix:///run/wherry/wherry.sock docker compose" in capfd.readouterr().err
