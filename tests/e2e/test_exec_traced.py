"""Execs and health checks in a container that may trace every process, or whose profile refuses what they need."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess
from tests.races import race
from tests.tracer import BEFORE, attack, tracing

pytestmark = pytest.mark.root

# all that makes a process or changes what it is, and is not needed by a program that only ends
_NOT_FOR_PROGRAMS = ("clone", "clone3", "fork", "vfork", "setsid", "ioctl", "prlimit64", "setrlimit")


def _start(engine: EngineProcess, *options: str) -> int:
    """Run a container that waits; the pid of its process 1."""
    words = ("--network", "none", "--name", "box", *options, "busybox", "sleep", "1000")
    engine.docker("run", "-d", *words)
    return int(engine.docker("inspect", "-f", "{{.State.Pid}}", "box").out)


@pytest.mark.parametrize("words", [(), ("-t",), ("-u", "1000:1000")], ids=["plain", "terminal", "user"])
def test_attack_an_exec_is_traced(engine: EngineProcess, tmp_path: Path, words: tuple[str, ...]) -> None:
    """A container with SYS_PTRACE meets no process of an exec that has more than the container."""
    sentinel = tmp_path / "sentinel"
    sentinel.write_text("of the host")
    with tracing(_start(engine, "--cap-add", "SYS_PTRACE"), sentinel) as tracer:
        attack(tracer, lambda: engine.docker("exec", *words, "box", "sleep", "0.1"))


def test_attack_a_health_check_is_traced(engine: EngineProcess, tmp_path: Path) -> None:
    """Nor does it meet one of a health check."""
    sentinel = tmp_path / "sentinel"
    sentinel.write_text("of the host")
    # a shell that executes makes no process of its own
    health = ("--health-cmd", "exec sleep 0.1", "--health-interval", "200ms")
    with tracing(_start(engine, "--cap-add", "SYS_PTRACE", *health), sentinel) as tracer:
        attack(tracer, lambda: None)


def test_attack_the_engines_environment_is_read(engine: EngineProcess, tmp_path: Path) -> None:
    """A process of an exec has nothing of wherryd's environment, where proxies have passwords."""
    entries = Path(f"/proc/{engine.pid}/environ").read_text(errors="replace").split("\0")
    secret = {entry.partition("=")[0] for entry in entries} & {"HOME", "USER", "PWD", "PYTEST_CURRENT_TEST"}
    assert secret, "wherryd has no environment to read"
    with tracing(_start(engine, "--cap-add", "SYS_PTRACE"), tmp_path) as tracer:

        def attempt() -> Iterator[str]:
            engine.docker("exec", "box", "sleep", "0.1")
            found = tracer.caught()
            if found is not None and found["stops"]:
                assert not secret & set(found["variables"]), found
                yield BEFORE

        race(attempt, (BEFORE,), rounds=1)


@pytest.mark.parametrize("words", [(), ("-t",), ("-u", "1000:1000")], ids=["plain", "terminal", "user"])
def test_a_profile_may_refuse_what_an_exec_needs(engine: EngineProcess, tmp_path: Path, words: tuple[str, ...]) -> None:
    """The container's profile has no say in how an exec's process is made, but binds the program."""
    calls = [{"names": [name], "action": "SCMP_ACT_ERRNO"} for name in _NOT_FOR_PROGRAMS]
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}))
    _start(engine, "--security-opt", f"seccomp={profile}", "--ulimit", "nproc=4000")
    assert engine.docker("exec", *words, "box", "echo", "there").out.split() == ["there"]
    assert engine.docker("exec", *words, "box", "sh", "-c", "true | true", check=False).code != 0
    assert engine.docker("exec", *words, "box", "setsid", "true", check=False).code != 0


def test_an_exec_takes_one_process_of_its_users_limit(engine: EngineProcess) -> None:
    """`--ulimit nproc=1` allows an exec of a user that has no process, and that exec no other process."""
    _start(engine, "--ulimit", "nproc=1")
    uid = str(300000 + os.getpid())  # nobody else's
    read = 'while read line; do case $line in "Max processes"*) echo $line; esac; done </proc/self/limits'
    script = f"{read}; true | true"
    done = engine.docker("exec", "-u", uid, "box", "sh", "-c", script, check=False)
    assert done.out == "Max processes 1 1 processes\n", done
    assert "can't fork" in done.err, done
