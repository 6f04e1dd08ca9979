"""Half a minute of chaos; `make chaos` runs it for longer, and `WHERRY_CHAOS_SECONDS` says for how long here."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.journal import Journal
from tests.chaos.model import Box, differences
from tests.chaos.run import chaos
from tests.e2e.harness import EngineProcess, running

SECONDS = float(os.environ.get("WHERRY_CHAOS_SECONDS", "30"))
SEED = os.environ.get("WHERRY_SEED", "7")


@pytest.fixture
def own_engine() -> Iterator[EngineProcess]:
    """Give an engine of the test's own with busybox."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.mark.root
def test_half_a_minute(own_engine: EngineProcess, tmp_path: Path) -> None:
    """Whatever was killed: each object is what its commands made of it, works, and leaves nothing."""
    journal = Journal(tmp_path / "chaos.log", loud=False)
    try:
        chaos(own_engine, journal, seed=SEED, seconds=SECONDS, users=3)
    finally:
        journal.close()
    assert journal.commands > 0
    log = (tmp_path / "chaos.log").read_text()
    assert not journal.findings, f"seed {SEED}\n" + "\n".join(journal.findings) + f"\n{log[-20000:]}"


def test_the_model_sees_what_changes() -> None:
    """A new address, port or process is a finding; a network that a command moves is none."""
    before = {"Id": "a", "Pid": 1, "Ports": {}, "Networks": {"one": ("10.0.0.2", "m"), "two": ("10.1.0.2", "n")}}
    moved = {**before, "Networks": {"one": ("10.0.0.3", "m")}}
    assert differences(before, dict(before), set()) == []
    assert differences(before, moved, {"two"}) == ["network one: ('10.0.0.2', 'm') became ('10.0.0.3', 'm')"]
    assert len(differences(before, moved, set())) == 2
    assert differences(before, {**before, "Pid": 2, "Ports": {"80/tcp": []}}, set()) == [
        "Pid: 1 became 2",
        "Ports: {} became {'80/tcp': []}",
    ]


@pytest.mark.parametrize(
    ("box", "may"),
    [
        (Box("plain"), {"exited"}),
        (Box("kept", policy="unless-stopped"), {"exited", "running", "restarting"}),
        (Box("brief", removed=True), {"absent", "removing", "exited"}),
    ],
    ids=lambda value: value.name if isinstance(value, Box) else "",
)
def test_what_a_killed_monitor_leaves(box: Box, may: set[str]) -> None:
    """A container ends with its monitor; its policy, or `--rm`, says what comes then."""
    assert box.after_a_kill() == may
