"""What a run gives back: output, exit codes, errors in Docker's words."""

import hashlib
import os
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.cgroups import needs, unified
from tests.e2e.harness import BIN, EngineProcess, until

pytestmark = pytest.mark.root

COMMANDS = ("docker", str(BIN / "wherry"))


@pytest.fixture(params=COMMANDS, ids=["docker", "wherry"])
def command(request: pytest.FixtureRequest) -> str:
    """Name each command that people type."""
    return str(request.param)


def test_output_and_streams_are_kept_apart(engine: EngineProcess, command: str) -> None:
    """stdout and stderr of the container are the command's own."""
    done = engine.run(command, "run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.out, done.err) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("run", "--rm", "busybox", "sh", "-c", "exit 42"), 42),
        (("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137),
        (("run", "--rm", "busybox", "/nowhere"), 127),
        (("run", "--rm", "busybox", "nowhere"), 127),
        (("run", "--rm", "busybox", "/etc/passwd"), 126),
        (("run", "--rm", "--no-such-flag", "busybox", "true"), 125),
        (("run", "--rm", "--pull=never", "no/such:image", "true"), 125),
        (("run", "--rm", "-m", "1k", "busybox", "true"), 125),
        (("run", "--rm", "--network", "container:nobody", "busybox", "true"), 125),
        (("exec", "nobody", "true"), 1),
        (("rm", "nobody"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_exit_codes(engine: EngineProcess, command: str, argv: tuple[str, ...], code: int) -> None:
    """The exit code is the container's own, or 125, 126, 127, 128+n as Docker gives it."""
    engine.run(command, *argv, code=code)
    engine.assert_nothing_runs()


def test_a_failed_start_leaves_a_created_container_with_its_code(engine: EngineProcess) -> None:
    """A program that is not there: 127 in inspect, the reason in State.Error, and the container can be removed."""
    done = engine.docker("run", "--name", "broken", "busybox", "nowhere", code=127)
    assert 'exec: "nowhere": executable file not found in $PATH' in done.err
    shown = engine.docker("inspect", "-f", "{{.State.ExitCode}} {{.State.Status}} {{.State.Error}}", "broken").out
    assert shown.startswith("127 created")
    assert "executable file not found" in shown
    engine.docker("rm", "broken")


def test_stdin_reaches_the_container(engine: EngineProcess, command: str) -> None:
    """`-i` gives stdin to its end."""
    data = os.urandom(3 << 20)
    done = engine.run(command, "run", "--rm", "-i", "busybox", "sha256sum", stdin=data)
    assert done.out.split()[0] == hashlib.sha256(data).hexdigest()


def test_large_output_is_whole(engine: EngineProcess, command: str) -> None:
    """Every byte of 20 MB arrives, in order."""
    done = engine.run("sh", "-c", f"{command} run --rm busybox seq 1 3000000 | sha256sum")
    wanted = hashlib.sha256(b"".join(b"%d\n" % n for n in range(1, 3_000_001))).hexdigest()
    assert done.out.split()[0] == wanted


def test_a_reader_that_stops_ends_the_run(engine: EngineProcess, command: str) -> None:
    """`run … | head -1` ends, though the container would write for ever."""
    done = engine.run("sh", "-c", f"{command} run --rm busybox yes | head -1", seconds=30)
    assert done.out == "y\n"


def test_environment_user_workdir_hostname(engine: EngineProcess, command: str) -> None:
    """-e, --env-file, -u, -w, -h and --entrypoint do what they say."""
    script = "echo $A/$B $(id -u):$(id -g) $(pwd) $(hostname)"
    env_file = engine.base / "env"
    env_file.write_text("B=from file\n")
    flags = ("-e", "A=1", "--env-file", str(env_file), "-u", "12:34", "-w", "/srv/x", "-h", "named")
    done = engine.run(command, "run", "--rm", *flags, "--entrypoint", "/bin/sh", "busybox", "-c", script)
    assert done.out == "1/from file 12:34 /srv/x named\n"


def test_binds_and_read_only_root(engine: EngineProcess, command: str) -> None:
    """-v maps a host directory; ro is obeyed, also of the root; --tmpfs stays writable."""
    (engine.base / "shared").mkdir(exist_ok=True)
    (engine.base / "shared" / "new").unlink(missing_ok=True)
    (engine.base / "shared" / "file").write_text("from host\n")
    script = (
        "cat /data/file; echo x >/data/new; echo y >/ro/new; echo z >/root-file; echo t >/scratch/t && cat /scratch/t"
    )
    shared = str(engine.base / "shared")
    flags = ("-v", f"{shared}:/data", "-v", f"{shared}:/ro:ro", "--read-only", "--tmpfs", "/scratch")
    done = engine.run(command, "run", "--rm", *flags, "busybox", "sh", "-c", script)
    assert done.out == "from host\nt\n"
    assert done.err.count("Read-only file system") == 2
    assert (engine.base / "shared" / "new").read_text() == "x\n"


@needs("memory")
def test_a_memory_limit_is_applied(engine: EngineProcess, command: str) -> None:
    """The process that eats too much is killed, and inspect reports it."""
    flags = ("-m", "16m", "--memory-swap", "16m", "--name", "eater")
    engine.run(command, "run", *flags, "busybox", "sh", "-c", "tail /dev/zero", code=137)
    assert engine.docker("inspect", "-f", "{{.State.OOMKilled}}", "eater").out.strip() == "true"


@needs("pids")
def test_a_pids_limit_is_applied(engine: EngineProcess, command: str) -> None:
    """A shell cannot fork beyond the limit."""
    forks = "i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done; echo all"
    done = engine.run(command, "run", "--rm", "--pids-limit", "8", "busybox", "sh", "-c", forks, code=None)
    assert "can't fork" in done.err
    assert "all" not in done.out


def test_a_ulimit_is_applied(engine: EngineProcess, command: str) -> None:
    """Process 1 has the limit of open files that was asked."""
    done = engine.run(command, "run", "--rm", "--ulimit", "nofile=64:64", "busybox", "sh", "-c", "ulimit -n")
    assert done.out == "64\n"


def test_network_modes(engine: EngineProcess, command: str) -> None:
    """bridge has an address, none only loopback, host the host's links, container:X the other's."""
    links = "ls /sys/class/net | tr '\\n' ' '"
    assert engine.run(command, "run", "--rm", "busybox", "sh", "-c", links).out.split() == ["eth0", "lo"]
    assert engine.run(command, "run", "--rm", "--network", "none", "busybox", "sh", "-c", links).out.split() == ["lo"]
    here = sorted(os.listdir("/sys/class/net"))
    assert engine.roots.bridge in here
    seen = engine.run(command, "run", "--rm", "--network", "host", "busybox", "sh", "-c", links).out.split()
    assert engine.roots.bridge in seen
    engine.docker("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    address = engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "other").out.strip()
    done = engine.run(command, "run", "--rm", "--network", "container:other", "busybox", "ip", "addr")
    assert f"inet {address}/" in done.out


def test_a_published_port_answers(engine: EngineProcess, command: str) -> None:
    """-p is reachable over 127.0.0.1, and gone with the container."""
    page = "echo hello >/index.html; exec httpd -f -h / -p 80"
    engine.run(command, "run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", page)
    address = engine.run(command, "port", "web", "80/tcp").out.strip()

    def fetched() -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
                return bool(answer.read() == b"hello\n")
        except OSError:
            return False

    until(fetched, "the page answers")
    engine.docker("rm", "-f", "web")
    until(lambda: not fetched(), "the port is gone")


def test_a_port_is_given_once(engine: EngineProcess) -> None:
    """The second container that wants a host port is refused in Docker's words, and does not run."""
    engine.docker("run", "-d", "--name", "first", "-p", "127.0.0.1:48231:80", "busybox", "sleep", "1000")
    done = engine.docker("run", "-d", "--name", "second", "-p", "127.0.0.1:48231:80", "busybox", "sleep", "1", code=125)
    assert "Bind for 127.0.0.1:48231 failed: port is already allocated" in done.err
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "second").out.strip() == "false"


def test_default_isolation(engine: EngineProcess) -> None:
    """14 capabilities, a seccomp filter, masked paths, and clean signal dispositions."""
    status = engine.docker("run", "--rm", "busybox", "cat", "/proc/self/status").out
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert fields["CapEff"] == fields["CapPrm"] == fields["CapBnd"] == "00000000a80425fb"
    assert fields["CapInh"] == fields["CapAmb"] == "0000000000000000"
    assert fields["Seccomp"] == "2"
    assert fields["SigIgn"] == fields["SigBlk"] == "0000000000000000"
    masked = engine.docker(
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "wc -c </proc/timer_list; ls -A /sys/firmware; echo 1 >/proc/sys/vm/swappiness; true",
    )
    assert masked.out == "0\n"
    assert "Read-only" in masked.err


@pytest.mark.parametrize("prefix", [1, 6, 12])
def test_an_id_prefix_is_enough(engine: EngineProcess, prefix: int) -> None:
    """Containers and images answer to an unambiguous beginning of their id."""
    id_ = engine.docker("create", "busybox", "true").out.strip()
    assert engine.docker("inspect", "-f", "{{.Id}}", id_[:prefix]).out.strip() == id_
    image = engine.docker("inspect", "-f", "{{.Image}}", id_).out.strip()
    short = image.removeprefix("sha256:")[: max(prefix, 6)]
    assert engine.docker("image", "inspect", "-f", "{{.Id}}", short).out.strip() == image


def test_a_running_container_needs_force(engine: EngineProcess) -> None:
    """`rm` of a running container is refused in Docker's words; `rm -f` removes it."""
    engine.docker("run", "-d", "--name", "busy", "busybox", "sleep", "1000")
    refused = engine.docker("rm", "busy", code=1)
    assert "cannot remove container" in refused.err
    assert "stop the container before removing or force remove" in refused.err
    engine.docker("rm", "-f", "busy")
    engine.assert_nothing_runs()


def test_an_image_in_use_stays(engine: EngineProcess) -> None:
    """`rmi` is refused while a container uses the image, and only unties a name while others remain."""
    engine.docker("create", "--name", "user", "busybox", "true")
    engine.docker("tag", "busybox", "another/name:1")
    assert engine.docker("rmi", "another/name:1").out == "Untagged: another/name:1\n"
    refused = engine.docker("rmi", "busybox", code=1)
    assert "conflict: unable to remove repository reference" in refused.err


def test_lifecycle_verbs(engine: EngineProcess) -> None:
    """create, start, pause, unpause, restart, stop, kill, wait and logs tell one story."""
    engine.docker("create", "--name", "life", "busybox", "sh", "-c", "echo born; exec sleep 1000")
    engine.docker("start", "life")

    def state() -> str:
        return engine.docker("inspect", "-f", "{{.State.Status}}", "life").out.strip()

    assert state() == "running"
    engine.docker("pause", "life")
    assert state() == "paused"
    assert "paused" in engine.docker("exec", "life", "true", code=1).err
    engine.docker("unpause", "life")
    engine.docker("restart", "-t", "0", "life")
    assert state() == "running"
    engine.docker("stop", "-t", "0", "life")
    assert state() == "exited"
    assert engine.docker("wait", "life").out.strip() == "137"
    assert engine.docker("logs", "life").out == "born\nborn\n"
    assert engine.docker("logs", "--tail", "1", "life").out == "born\n"


def _freeze_by_hand(engine: EngineProcess, id_: str) -> None:
    directories = [Path(directory) for directory in engine.cgroups() if id_ in directory]
    file = next((path for d in directories if (path := d / "freezer.state").exists()), None)
    if file is not None:
        file.write_text("FROZEN")
        until(lambda: file.read_text() == "FROZEN\n", "it is frozen")
        return
    (directory,) = directories
    (directory / "cgroup.freeze").write_text("1")
    until(lambda: "frozen 1" in (directory / "cgroup.events").read_text(), "it is frozen")


@pytest.mark.parametrize("words", ["rm -f iced", "kill iced", "stop -t 0 iced", "stop -t 1 iced"])
def test_what_somebody_else_has_frozen_is_ended(engine: EngineProcess, words: str) -> None:
    """The engine knows of no pause, and in cgroup v1 even SIGKILL waits for the end of it."""
    id_ = engine.docker("run", "-d", "--name", "iced", "busybox", "sleep", "1000").out.strip()
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", id_).out.strip()
    _freeze_by_hand(engine, id_)
    engine.run("docker", *words.split(), seconds=20)
    until(lambda: not Path("/proc", pid).exists(), "it is gone")
    until(lambda: not any(id_ in directory for directory in engine.cgroups()), "its cgroup too")


def test_inspect_says_what_was_asked(engine: EngineProcess) -> None:
    """Flags of create come back in inspect."""
    flags = ("--label", "a=b", "--restart", "on-failure:3", "--stop-signal", "SIGINT")
    engine.docker("create", "--name", "asked", *flags, "busybox", "true")
    line = "{{.Config.StopSignal}} {{.HostConfig.RestartPolicy.Name}} {{.Config.Labels.a}}"
    assert engine.docker("inspect", "-f", line, "asked").out.strip() == "SIGINT on-failure b"


@needs("cpu", "memory")
def test_inspect_says_which_limits_were_asked(engine: EngineProcess) -> None:
    """Limits of create come back in inspect."""
    engine.docker("create", "--name", "asked", "-m", "64m", "--cpus", "0.5", "busybox", "true")
    line = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"
    assert engine.docker("inspect", "-f", line, "asked").out.strip() == "67108864 500000000"


def test_whether_the_oom_killer_is_disabled(engine: EngineProcess) -> None:
    """`false` unless a client wants it; after the first start `null` where the kernel cannot do it, as in dockerd."""
    line = ("inspect", "-f", "{{json .HostConfig.OomKillDisable}}", "asked")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(engine.roots.socket)
        body = b'{"Image": "busybox", "Cmd": ["sleep", "1000"]}'
        head = f"POST /containers/create?name=asked HTTP/1.0\r\nContent-Length: {len(body)}\r\n"
        sock.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        assert b" 201 " in sock.recv(65536)
    assert engine.docker(*line).out == "false\n"
    engine.docker("start", "asked")
    assert engine.docker(*line).out == ("null\n" if unified() else "false\n")


def test_a_port_of_a_container_that_ends_at_once_is_withdrawn(engine: EngineProcess) -> None:
    """However short a container lives, no map element of it stays."""
    for _ in range(10):
        engine.docker("run", "--rm", "-p", "127.0.0.1::80", "busybox", "true")

    def published() -> str:
        return engine.run("nft", "list", "map", "ip", engine.roots.scope, "addressed").out

    until(lambda: "elements" not in published(), f"the map is empty: {published()}")
    engine.assert_nothing_runs()


def test_the_sandbox_key_is_the_network_namespace(engine: EngineProcess) -> None:
    """The path in inspect names the namespace that the container is in."""
    engine.docker("run", "-d", "--name", "keyed", "busybox", "sleep", "1000")
    line = "{{.NetworkSettings.SandboxKey}} {{.State.Pid}}"
    key, pid = engine.docker("inspect", "-f", line, "keyed").out.split()
    assert os.stat(key).st_ino == os.stat(f"/proc/{pid}/ns/net").st_ino
