"""`wherry build --debug`: a shell in the step that failed, with all that the step had; nothing of it is kept."""

import os
import signal
from pathlib import Path

import pytest

from tests.build.conftest import Context
from tests.build.test_secrets import CANARY, places_with
from tests.build.test_wherry import WHERRY
from tests.e2e.harness import EngineProcess, until
from tests.e2e.terminal import Terminal

pytestmark = pytest.mark.root

FAILING = """FROM busybox AS other
RUN echo bound > /f
FROM busybox
RUN mkdir /w && chown 77 /w
USER 77
ENV A=b
WORKDIR /w
RUN --mount=type=bind,from=other,source=/f,target=/bound --mount=type=cache,id=debugged,uid=77,target=/c \
    --mount=type=tmpfs,target=/t --mount=type=secret,id=token,uid=77 echo half > done; exit 3
"""


def left(engine: EngineProcess) -> dict[str, object]:
    """What a build could leave: images, staged layers, running steps, cache mounts."""
    return {
        "images": engine.docker("images", "-aq", "--no-trunc").out,
        "staged": sorted(name for name in os.listdir(engine.roots.ingest) if name.startswith("layer-")),
        "places": sorted(os.listdir(f"{engine.roots.run}/build")) if os.path.isdir(f"{engine.roots.run}/build") else [],
        "sandboxes": sorted(os.listdir(f"{engine.roots.run}/containers")),
    }


def test_the_shell_has_what_the_step_had(context: Context, engine: EngineProcess) -> None:
    """Files, variables, place and user of the failed step, from standard input; nothing of it stays afterwards."""
    context.write("Dockerfile", "FROM busybox\nENV A=b\nWORKDIR /w\nRUN echo half > done; exit 3\n")
    before = left(engine)
    done = engine.run(WHERRY, "build", "--debug", str(context.directory), stdin=b"cat done; pwd; echo $A\n", code=1)
    assert done.out == "half\n/w\nb\n"
    assert "did not complete successfully: exit code: 3" in done.err
    assert left(engine) == before


def test_a_person_at_a_terminal_finds_mounts_and_secret(
    context: Context, engine: EngineProcess, tmp_path: Path
) -> None:
    """The step's own mounts, a terminal of the right size; what is done there is not kept, but in the cache mount."""
    (tmp_path / "secret").write_text(CANARY)
    context.write("Dockerfile", FAILING)
    before = left(engine)
    argv = [WHERRY, "build", "--debug", "--progress=plain", "--secret", f"id=token,src={tmp_path}/secret"]
    terminal = Terminal([*argv, str(context.directory)], engine.env, (30, 99))
    try:
        terminal.expect("nothing of it is kept")
        terminal.ready()
        terminal.type("PS1=; cat done /bound /run/secrets/token; id -u; pwd; echo $A; stty size; echo e''nd\n")
        seen = terminal.expect("end")
        assert all(word in seen for word in ("half", "bound", CANARY, "77", "/w", "b", "30 99")), seen
        terminal.type("mount | grep -c ' on /t type tmpfs'; touch /c/typed /w/typed && echo do''ne\n")
        assert "1" in terminal.expect("done")
        terminal.resize(40, 120)
        terminal.type("until test \"$(stty size)\" = '40 120'; do usleep 10000; done; echo resi''zed; exit\n")
        terminal.expect("resized")
        terminal.expect("exit code: 3")
        assert terminal.wait() == 1
    finally:
        terminal.close()
    assert left(engine) == before
    assert [path.name for path in Path(engine.roots.data, "build/mounts").glob("*/fs/typed")] == ["typed"]
    assert places_with(CANARY, engine.roots.data, engine.roots.run, str(engine.log)) == []


def test_the_shell_ends_with_its_client(context: Context, engine: EngineProcess) -> None:
    """Somebody who goes away leaves neither a shell nor a mount."""
    context.write("Dockerfile", "FROM busybox\nRUN echo half > done; exit 3\n")
    before = left(engine)
    terminal = Terminal([WHERRY, "build", "--debug", str(context.directory)], engine.env)
    try:
        terminal.expect("nothing of it is kept")
        terminal.ready()
        terminal.type("echo r''uns\n")
        terminal.expect("runs")
        os.kill(terminal.pid, signal.SIGKILL)
    finally:
        terminal.close()
    until(lambda: left(engine) == before, "all of it is gone", 20)


def test_a_step_without_a_shell_fails_as_ever(context: Context, engine: EngineProcess) -> None:
    """Where there is no /bin/sh the build says so, and fails of what it failed of."""
    context.write("Dockerfile", 'FROM busybox AS b\nFROM scratch\nCOPY --from=b /bin/busybox /f\nRUN ["/f", "false"]\n')
    done = engine.run(WHERRY, "build", "--debug", "--progress=plain", str(context.directory), stdin=b"", code=1)
    assert "no shell in the failed step" in done.err
    assert "exit code: 1" in done.err
