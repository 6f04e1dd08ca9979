"""What `make worlds` reads out of a world's output."""

import fcntl
from pathlib import Path

import pytest
from tests import cgroups, worlds

LINES = """\
@world kernel 6.1.0
@world run 0 124
@world docker-cli 26.1.5
@world docker.io 26.1.5
1 passed, 1 error in 0.50s
noise 3 passed
==== 1200 passed, 9 skipped in 1501.20s (0:25:01) ====
"""


def told(lines: str) -> worlds.Outcome:
    """The outcome of a world that printed these lines."""
    outcome = worlds.Outcome("bookworm-v2")
    for line in lines.splitlines(keepends=True):
        outcome.read(line)
    return outcome


def test_a_green_world() -> None:
    """Both commands ended with 0; the counts are those of the last run of pytest."""
    outcome = told(LINES + "@world test 0 1510\n")
    assert outcome.green
    assert str(outcome) == (
        "bookworm-v2: green: 1200 passed, 9 skipped; make run 124 s, tests 1510 s; "
        "kernel 6.1.0, docker 26.1.5, dockerd 26.1.5"
    )


@pytest.mark.parametrize("more", ["", "@world test 1 1510\n", "@world test 10 5\n"])
def test_a_world_that_is_not(more: str) -> None:
    """A command failed, or the world ended before it."""
    assert not told(LINES + more).green
    assert "NOT GREEN" in str(told(LINES + more))


def test_a_world_that_leaves_something_is_not_green() -> None:
    """What is left is named."""
    outcome = told(LINES + "@world test 0 1510\n@world left link:wh0\n@world left table:ip:wherry-1\n")
    assert not outcome.green
    assert str(outcome).endswith("; left: link:wh0 table:ip:wherry-1")


def test_a_v1_world_needs_v1_controllers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with cgroup v2 alone cannot show them; v2 can be shown everywhere."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    for unified in (True, False):
        monkeypatch.setattr(cgroups, "unified", lambda answer=unified: answer)
        assert bool(worlds.possible("trixie-v1")) == unified
        assert not worlds.possible("trixie-v2")


def test_two_of_one_release_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has a turn before it is ended; one of the other release does."""
    monkeypatch.setattr(worlds, "CACHE", tmp_path)
    with worlds.turn("bookworm") as ends, open(tmp_path / "worlds" / "bookworm.lock") as second:
        with worlds.turn("trixie"):
            pass
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ends()
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_neighbours_engine_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays without a process is left; what had none for a moment, or was there before, is not."""
    seen = iter([{"cgroup:old", "cgroup:mine", "cgroup:neighbour"}, {"cgroup:old", "cgroup:mine", "cgroup:late"}])
    monkeypatch.setattr(worlds, "_traces", lambda: next(seen))
    monkeypatch.setattr("time.sleep", lambda _: None)
    clock = iter([0.0, 1.0, 61.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert worlds._left({"cgroup:old"}) == {"cgroup:mine"}
