"""Restart policies: each does what it says, whoever dies meanwhile."""

import collections
import contextlib
import itertools
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root


def shown(engine: EngineProcess, name: str, field: str) -> str:
    return engine.docker("inspect", "-f", f"{{{{{field}}}}}", name).out.strip()


def starts(marks: Path, name: str) -> list[float]:
    """When a container that marks its starts was started."""
    try:
        return [float(line) for line in (marks / name).read_text().split()]
    except FileNotFoundError:
        return []


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Give the directory where containers mark their starts."""
    directory = tmp_path / "marks"
    directory.mkdir()
    return directory


def marking(marks: Path, name: str, then: str) -> list[str]:
    """The arguments of a container that notes each start, then does `then`."""
    return ["-v", f"{marks}:/m", "busybox", "sh", "-c", f"cut -d' ' -f1 /proc/uptime >>/m/{name}; {then}"]


def assert_one_monitor_each(engine: EngineProcess) -> None:
    """No container runs twice: there is at most one monitor of its name."""
    titles = []
    for pid in engine.processes():
        with contextlib.suppress(OSError):
            titles.append(Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0"))
    monitors = [title for title in titles if title.startswith("wherry-monitor ")]
    assert len(monitors) == len(set(monitors)), collections.Counter(monitors).most_common(3)


def run(engine: EngineProcess, marks: Path, name: str, policy: str, then: str) -> None:
    engine.docker("run", "-d", "--name", name, "--restart", policy, *marking(marks, name, then))


def machine_restart(engine: EngineProcess) -> None:
    """What a power failure leaves: the data root, and nothing else."""
    if engine.process is not None:
        engine.kill()
    for pid in engine.processes():
        with contextlib.suppress(ProcessLookupError):  # one that ended by the death of another
            os.kill(pid, signal.SIGKILL)
    until(lambda: not engine.processes(), "everything is dead")
    engine.run("rm", "-rf", engine.roots.run)


def test_back_off(engine: EngineProcess, marks: Path) -> None:
    """100 ms, and twice as long each time; the limit of on-failure holds, and a start by hand counts anew."""
    run(engine, marks, "f1", "on-failure:4", "exit 3")
    until(lambda: shown(engine, "f1", ".State.Status") == "exited", "the last try", 40)
    times = starts(marks, "f1")
    assert len(times) == 5
    gaps = [after - before for before, after in itertools.pairwise(times)]
    for gap, least in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert gap >= least
    assert shown(engine, "f1", ".RestartCount") == "4"
    assert shown(engine, "f1", ".State.ExitCode") == "3"
    engine.docker("start", "f1")
    until(lambda: len(starts(marks, "f1")) == 10, "five more", 40)
    run(engine, marks, "z1", "on-failure", "exit 0")
    until(lambda: shown(engine, "z1", ".State.Status") == "exited", "it has ended")
    assert shown(engine, "z1", ".RestartCount") == "0"


def test_a_wish_outlives_the_engine_and_the_machine(own_engine: EngineProcess, marks: Path) -> None:
    """What was stopped stays so (but `always`, as with dockerd); what should run does; counts are kept."""
    engine = own_engine
    for policy in ("no", "always", "unless-stopped", "on-failure"):
        run(engine, marks, f"up-{policy}", policy, "exec sleep 1000")
        run(engine, marks, f"down-{policy}", policy, "exec sleep 1000")
    engine.docker("stop", "-t", "0", *(f"down-{p}" for p in ("no", "always", "unless-stopped", "on-failure")))
    engine.docker("create", "--name", "new-always", "--restart", "always", *marking(marks, "new-always", "true"))
    run(engine, marks, "count", "on-failure:2", "exit 9")
    until(lambda: shown(engine, "count", ".State.Status") == "exited", "the last try", 30)

    engine.kill()
    engine.start()
    until(lambda: shown(engine, "down-always", ".State.Running") == "true", "always is always")
    assert shown(engine, "count", ".RestartCount") == "2"
    running = set(engine.docker("ps", "--format", "{{.Names}}").out.split())
    assert running == {"up-no", "up-always", "up-unless-stopped", "up-on-failure", "down-always"}
    assert all(len(starts(marks, name)) == 1 for name in running - {"down-always"})

    machine_restart(engine)
    engine.start()
    wanted = {"up-always", "up-unless-stopped", "up-on-failure", "down-always"}
    until(lambda: set(engine.docker("ps", "--format", "{{.Names}}").out.split()) == wanted, "what should run does")
    assert shown(engine, "up-no", ".State.ExitCode") == "255"
    assert len(starts(marks, "count")) == 3
    assert_one_monitor_each(engine)
    assert not starts(marks, "new-always")
    engine.assert_no_traceback()


def test_a_count_survives_crashes(own_engine: EngineProcess, marks: Path) -> None:
    """A limit is not a limit for each engine: killed at every moment, the tries are as many as were allowed."""
    engine = own_engine
    run(engine, marks, "lim", "on-failure:5", "sleep 0.05; exit 3")
    deadline = time.monotonic() + 60
    for looks in itertools.cycle(range(1, 9)):
        engine.kill()
        engine.start()
        # each life of the engine ends at another moment of the container's
        if "5" in [shown(engine, "lim", ".RestartCount") for _ in range(looks)]:
            break
        assert time.monotonic() < deadline
    until(lambda: len(starts(marks, "lim")) == 6, "the last try")
    until(lambda: shown(engine, "lim", ".State.Status") == "exited", "its end")
    assert shown(engine, "lim", ".State.ExitCode") == "3"
    engine.kill()
    engine.start()
    assert shown(engine, "lim", ".State.Status") == "exited"
    assert len(starts(marks, "lim")) == 6


def test_many_policies_and_a_dying_engine(own_engine: EngineProcess, marks: Path) -> None:
    """Each policy honoured, no double start, no lost exit code.

    A hundredth of it by default; WHERRY_POLICIES=500 WHERRY_POLICY_KILLS=20 is the whole.
    """
    engine = own_engine
    count = int(os.environ.get("WHERRY_POLICIES", "12"))
    kills = int(os.environ.get("WHERRY_POLICY_KILLS", "3"))
    random.seed(5)
    made: dict[str, list[str]] = collections.defaultdict(list)

    def rolls() -> dict[str, float]:
        return {"long": random.uniform(0.5, 4 + count / 8), "short": random.uniform(0, 2)}

    kinds = {
        "always": ("always", "sleep {long:.2f}; exit {odd}"),
        "failing": ("on-failure:3", "sleep {short:.2f}; exit {code}"),
        "ending": ("on-failure", "sleep {long:.2f}; exit 0"),
        "forever": ("unless-stopped", "exec sleep 10000"),
        "once": ("no", "sleep {long:.2f}; exit {code}"),
        "stopped": ("unless-stopped", "exec sleep 10000"),
    }
    batch: list[tuple[str, str, str]] = []
    for number in range(count):
        kind = list(kinds)[number % len(kinds)]
        policy, then = kinds[kind]
        name = f"{kind}-{number}"
        made[kind].append(name)
        batch.append((name, policy, then.format(n=number, code=number % 100 + 1, odd=number % 2, **rolls())))

    per_round = -(-count // (kills + 1))
    for round_ in range(kills + 1):
        for name, policy, then_ in batch[round_ * per_round : (round_ + 1) * per_round]:
            run(engine, marks, name, policy, then_)
        stop = [name for name in made["stopped"] if starts(marks, name) and not (marks / f"{name}.told").exists()]
        if stop:
            engine.docker("stop", "-t", "0", *stop)
            for name in stop:
                (marks / f"{name}.told").touch()
        if round_ < kills:
            engine.kill()
            engine.start()
    stop = [name for name in made["stopped"] if not (marks / f"{name}.told").exists()]
    if stop:
        engine.docker("stop", "-t", "0", *stop)

    def settled() -> bool:
        return not engine.docker(
            "ps", "-q", *(w for k in ("ending", "once", "failing") for w in ("-f", f"name={k}-"))
        ).out

    until(settled, "what ends has ended", 60 + count)
    listed = engine.docker("ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.State}}").out.splitlines()
    states = dict(line.split(" ") for line in listed)
    assert_one_monitor_each(engine)
    for name in made["once"]:
        assert len(starts(marks, name)) == 1
        assert shown(engine, name, ".State.ExitCode") == str(int(name.split("-")[1]) % 100 + 1), name
    for name in made["failing"]:
        assert len(starts(marks, name)) == 4, name
        assert shown(engine, name, ".State.ExitCode") == str(int(name.split("-")[1]) % 100 + 1), name
        assert shown(engine, name, ".RestartCount") == "3"
    for name in made["ending"]:
        assert len(starts(marks, name)) == 1, name
        assert shown(engine, name, ".State.ExitCode") == "0"
    for name in made["forever"]:
        assert (states[name], len(starts(marks, name))) == ("running", 1), name
    for name in made["stopped"]:
        assert (states[name], len(starts(marks, name))) == ("exited", 1), name
    for name in made["always"]:
        assert states[name] in ("running", "restarting"), name
    engine.assert_no_traceback()
