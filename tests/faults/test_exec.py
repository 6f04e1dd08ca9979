"""`kill -9` of whoever starts an exec, at every kind of step: it runs once, or does not and says why."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import monitor, until
from tests.faults.engine import Step, TrappedEngine
from tests.faults.test_start import kinds

pytestmark = pytest.mark.root


class Scene:
    """An engine with a container that runs, in which each turn executes a command that leaves a line in a file."""

    def __init__(self, engine: TrappedEngine, shared: Path) -> None:
        self.engine = engine
        self.file = shared / "ran"
        engine.start()
        engine.wherry("image", "bootstrap", "busybox")
        self.run("kept", "-v", f"{shared}:/shared")
        self.turn()

    def run(self, name: str, *options: str) -> str:
        """Run a container that waits; its id."""
        words = ("run", "-d", "--name", name, "--network", "none", *options, "busybox", "sleep", "1000")
        return self.engine.docker(*words).out.strip()

    def turn(self, step: Step | None = None) -> tuple[list[Step], bool, int, str]:
        """Execute the command, with a kill at a step: the steps, whether it was met, the exit code, and the words."""
        engine = self.engine
        self.file.write_text("")
        body = {"Cmd": ["sh", "-c", "echo ran >>/shared/ran"]}
        status, made = engine.call("POST", "/containers/kept/exec", body)
        assert status == 201, made
        engine.arm(made["Id"], "kill" if step else "", step)
        status, answer = engine.call("POST", f"/exec/{made['Id']}/start", {"Detach": True, "Tty": False})
        ended: dict[str, Any] = {}

        def over() -> bool:
            ended.update(engine.call("GET", f"/exec/{made['Id']}/json")[1])
            return not ended["Running"]

        until(over, "it has ended")
        seen, hit = engine.disarm()
        words = answer["message"] if status >= 400 else ""
        if status >= 400:
            assert ended["ExitCode"] == 126, ended
        return seen, hit, ended["ExitCode"], words

    def ran(self) -> int:
        """How often the command ran."""
        return self.file.read_text().count("ran")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Give the engine and its container."""
    engine = TrappedEngine()
    try:
        yield Scene(engine, tmp_path)
        engine.assert_no_traceback()
    finally:
        engine.destroy()
    engine.assert_clean()


def test_every_step_of_an_exec(scene: Scene) -> None:
    """A helper or joiner that is killed before the program ran is replaced; after that the failure is told."""
    seen, _, code, words = scene.turn()
    assert (code, words, scene.ran()) == (0, "", 1)
    steps = [step for step in kinds(seen) if step[0] != "wherryd"]
    assert {role for role, _, _ in steps} == {"launch", "process 1"}
    again = met = 0
    for step in steps:
        _, hit, code, words = scene.turn(step)
        met += hit
        if code == 0:
            assert scene.ran() == 1, step
            again += hit
        else:
            assert scene.ran() <= 1, step
            assert words, step
            assert "was killed" in words or "SIGKILL" in words, (step, words)
    assert met > len(steps) * 0.8
    # only the last word of the helper comes after the program's begin
    assert again >= met - 1, (again, met)
    assert scene.engine.docker("exec", "kept", "cat", "/shared/ran").code == 0


def test_the_monitor_is_killed(scene: Scene) -> None:
    """Before the program runs it is told in the stream; while it runs the exec has the code of a kill."""
    engine = scene.engine
    id_ = scene.run("first")
    engine.arm(id_, "kill", ("monitor", "clone", 1))
    done = engine.docker("exec", "first", "true", check=False)
    seen, hit = engine.disarm()
    assert hit, seen
    assert done.code == 126, done
    assert "the monitor of the container (wherry-monitor, " in done.out, done
    id_ = scene.run("second")
    words = ("docker", "exec", "second", "sh", "-c", "echo up; sleep 1000")
    with subprocess.Popen(words, env=engine.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        os.kill(monitor(engine, "second"), 9)
        assert process.wait(60) == 137
    until(lambda: engine.docker("ps", "-q").out.count("\n") == 1, "both have ended")
    until(lambda: id_ not in os.listdir(engine.roots.sandboxes), "nothing of it is left")
