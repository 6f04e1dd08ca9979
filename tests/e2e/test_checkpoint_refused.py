"""What is said where no checkpoint can be had: no CRIU, one that does not work here, hostile names and directories."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, EngineProcess

pytestmark = pytest.mark.root

HOSTILE = ("../x", "/etc", "..", ".", "", "a", ".hidden", "x/../../y", "a b", "ä1", "x\n", "-x", "x" * 300)
COMPLAINT = "vdso: Unexpected rt vDSO area bounds"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a directory with every tool of this machine but criu, which is all that the engine's PATH has."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for place in reversed(os.environ["PATH"].split(":")):
        for entry in os.scandir(place) if os.path.isdir(place) else ():
            if entry.name != "criu":
                (directory / entry.name).unlink(missing_ok=True)
                (directory / entry.name).symlink_to(entry.path)
    monkeypatch.setenv("PATH", str(directory))
    return directory


@pytest.fixture
def bare(tools: Path) -> Iterator[EngineProcess]:
    """Give an engine that calls itself experimental, on a machine without criu, with one container that runs."""
    assert tools
    engine = EngineProcess("--experimental")
    try:
        engine.start()
        engine.wherry("image", "bootstrap", "busybox")
        engine.docker("run", "-d", "--name", "cc1", "busybox", "sleep", "1000")
        engine.docker("create", "--name", "cc2", "busybox", "true")
        yield engine
    finally:
        engine.destroy()
    engine.assert_clean()


def _call(engine: EngineProcess, method: str, path: str, body: str = "") -> tuple[int, str]:
    """Ask the API; returns status and message."""
    words = ("curl", "-s", "-o", "-", "-w", "\n%{http_code}", "--path-as-is", "--unix-socket", engine.roots.socket)
    data = ("-H", "Content-Type: application/json", "-d", body) if body else ()
    out, _, status = engine.run(*words, "-X", method, *data, f"http://x{path}").out.rpartition("\n")
    return int(status), json.loads(out)["message"] if out.startswith("{") else out


def test_without_criu(bare: EngineProcess) -> None:
    """The docker command and ours say dockerd's words; nothing is made, and nothing happens to the container."""
    engine = bare
    missing = 'CRIU version check failed: exec: "criu": executable file not found in $PATH'
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", "cc1").out
    for run in (engine.docker, engine.wherry):
        made = run("checkpoint", "create", "cc1", "first", code=1)
        assert f"Cannot checkpoint container cc1: {missing}" in made.err
        assert "container " in run("checkpoint", "create", "cc2", "first", code=1).err
        assert "No such container: nope" in run("checkpoint", "create", "nope", "first", code=1).err
        assert run("checkpoint", "ls", "cc1").out == "CHECKPOINT NAME\n"
        assert (
            "checkpoint first does not exist for container cc1" in run("checkpoint", "rm", "cc1", "first", code=1).err
        )
        failed = run("start", "--checkpoint", "first", "cc2", code=1).err
        assert "checkpoint first does not exist for container /cc2" in failed
        assert (
            "cannot restore multiple containers at once" in run("start", "--checkpoint", "c1", "cc1", "cc2", code=1).err
        )
    assert engine.docker("inspect", "-f", "{{.State.Pid}}", "cc1").out == pid
    id_ = engine.docker("inspect", "-f", "{{.Id}}", "cc2").out.strip()
    one = Path(engine.roots.container(id_)) / "checkpoints" / "one"
    one.mkdir(parents=True)
    (one / "wherry.json").write_text("{}")
    assert missing in engine.wherry("start", "--checkpoint", "one", "cc2", code=1).err
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "cc2").out == "created\n"
    assert engine.docker("version", "-f", "{{.Server.Experimental}}").out == "true\n"
    engine.assert_no_traceback()


def test_with_one_that_cannot_work_here(bare: EngineProcess, tools: Path) -> None:
    """Its own complaint is told, with its version and the kernel's; it is asked once, and again when it is another.

    The program is a stand-in that answers as Debian 12's criu does with a kernel that is too new for it.
    """
    engine = bare
    log = tools.parent / "asked"
    program = tools / "criu"
    errors = "\n".join(
        f"echo 'Error (criu/{line}' >&2"
        for line in (f"vdso.c:381): {COMPLAINT}", "crtools.c:260): Could not initialize")
    )
    version = '[ "$1" = --version ] && { echo "Version: 3.17.1"; exit 0; }'
    program.write_text(f'#!/bin/sh\necho "$*" >>{log}\n{version}\n{errors}\nexit 1\n')
    program.chmod(0o755)
    for _ in range(2):
        said = engine.wherry("checkpoint", "create", "cc1", "first", code=1).err
        assert (
            f"Cannot checkpoint container cc1: CRIU check failed: {program} 3.17.1 cannot work with kernel "
            f"{os.uname().release}: {COMPLAINT}\n"
        ) in said
    assert log.read_text() == "check\n--version\n"
    program.write_text("#!/nowhere\n")
    assert "cannot work with kernel" in engine.wherry("checkpoint", "create", "cc1", "first", code=1).err
    program.write_text('#!/bin/sh\n[ "$*" = check ] && exit 0\necho "$*" >&2; exit 7\n')
    said = engine.wherry("checkpoint", "create", "cc1", "first", code=1).err
    assert "criu failed: type DUMP: exit status 7: log file: " in said
    written = Path(said.rpartition("log file: ")[2].strip()).read_text()
    assert written.startswith("dump --tree ")
    assert "--leave-running" in written
    assert engine.wherry("checkpoint", "ls", "cc1").out == "CHECKPOINT NAME\n"
    assert engine.docker("exec", "cc1", "echo", "alive").out == "alive\n", "it is not frozen"
    engine.assert_no_traceback()


def test_hostile_names_and_directories(engine: EngineProcess, tmp_path: Path) -> None:
    """A name is a name and never a path, on every call; what is no checkpoint of ours is not touched."""
    engine.docker("run", "-d", "--name", "cc3", "busybox", "sleep", "1000")
    engine.docker("create", "--name", "cc4", "busybox", "true")
    base = Path(engine.roots.container(engine.docker("inspect", "-f", "{{.Id}}", "cc3").out.strip()))
    (tmp_path / "precious" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    for name in HOSTILE:
        body = json.dumps({"CheckpointID": name, "CheckpointDir": str(tmp_path)})
        status, message = _call(engine, "POST", "/containers/cc3/checkpoints", body)
        assert (status, message) == (
            400,
            f"Invalid checkpoint ID ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        )
        failed = engine.wherry("start", "--checkpoint", name, "--checkpoint-dir", str(tmp_path), "cc4", check=False)
        assert (failed.code, name and "does not exist" in failed.err) == ((1, True) if name else (0, name))
        engine.docker("wait", "cc4")  # no name at all is a start without one; to start what runs is no error
    for name in ("..%2fprecious", "%2e%2e", "precious", "link", "x%2f..%2fprecious", ""):
        status, _ = _call(engine, "DELETE", f"/containers/cc3/checkpoints/{name}?dir={tmp_path}")
        assert status in (301, 404), name
        status, _ = _call(engine, "POST", f"/containers/cc4/start?checkpoint={name or 'x'}&checkpoint-dir={tmp_path}")
        assert status == 404, name
    for directory in ("relative", "../../etc", f"{tmp_path}/../x", f"{tmp_path}//x", "/proc/\x01/../x"):
        body = json.dumps({"CheckpointID": "good", "CheckpointDir": directory})
        status, message = _call(engine, "POST", "/containers/cc3/checkpoints", body)
        assert status in (400, 500)
        assert "Cannot checkpoint" in message or "it must be a clean absolute path" in message
    assert _call(engine, "GET", "/containers/cc3/checkpoints?dir=../../etc")[0] == 400
    assert _call(engine, "GET", f"/containers/cc3/checkpoints?dir={tmp_path}") == (200, "[]\n")
    assert _call(engine, "GET", f"/containers/cc3/checkpoints?dir={tmp_path}/none")[0] == 404
    assert _call(engine, "POST", "/containers/cc4/checkpoints", '{"CheckpointID":"good"}')[0] == 409
    assert _call(engine, "POST", "/containers/cc3/checkpoints", '{"CheckpointID":1}')[0] == 400
    assert (tmp_path / "precious" / "deep").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "precious"]
    assert not (base / "checkpoints").exists()
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "cc3").out == "true\n"


def test_what_cannot_be_restored_is_refused_by_name(engine: EngineProcess) -> None:
    """A terminal, a user namespace, namespaces of others: before CRIU is asked."""
    engine.docker("run", "-d", "--name", "ccs", "--ipc", "shareable", "busybox", "sleep", "1000")
    cases = {
        "ct1": (("-t",), "checkpoint not support on containers with tty"),
        "cp1": (("--pid", "host"), "shares a PID namespace is not supported"),
        "cp2": (("--pid", "container:ccs"), "shares a PID namespace is not supported"),
        "ci1": (("--ipc", "container:ccs"), "shares a IPC namespace is not supported"),
    }
    for name, (flags, words) in cases.items():
        engine.docker("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
        failed = engine.run(str(BIN / "wherry"), "checkpoint", "create", name, "no", code=1).err
        assert f"Cannot checkpoint container {name}: " in failed
        assert words in failed
