"""Processes executed in a running container."""

import os
import socket
import time
from array import array

import pytest

from tests.e2e.harness import until
from tests.runtime.conftest import CAPABILITIES, Box
from tests.tracer import attack, tracing
from wherry.errors import CommandNotFound, HostileInput, InvalidArgument, KernelError, NotRunning
from wherry.linux.process import children
from wherry.runtime import join
from wherry.runtime.joiner import Joiner

pytestmark = pytest.mark.root


def test_joins_every_namespace(box: Box) -> None:
    """The process is beside process 1 in all of its namespaces."""
    launched = box.start("sleep", "60")
    kinds = ("mnt", "net", "pid", "ipc", "uts", "cgroup")
    script = f"for n in {' '.join(kinds)}; do readlink /proc/self/ns/$n; done"
    output = box.join(launched, "sh", "-c", script)[1]
    assert output.split() == [os.readlink(f"/proc/{launched.pid}/ns/{kind}") for kind in kinds]


def test_exit_code_signals_and_rights(box: Box) -> None:
    """The process is as clean as process 1, and has its own rights."""
    launched = box.start("sleep", "60")
    code, output = box.join(
        launched,
        "sh",
        "-c",
        "grep -E 'SigBlk|SigIgn|CapEff|CapAmb|NoNew' /proc/self/status; ls /proc/self/fd; exit 9",
        capabilities={"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        noNewPrivileges=True,
    )
    assert code == 9
    assert output.count("0000000000000000") == 3
    assert "CapEff:\t0000000000000020" in output
    assert "NoNewPrivs:\t1" in output
    assert output.endswith("0\n1\n2\n3\n")


def test_user_and_working_directory(box: Box) -> None:
    """Names are looked up in the container."""
    launched = box.start("sleep", "60")
    code, output = box.join(
        launched, "sh", "-c", "id -un; pwd; echo $HOME", user={"uid": 0, "gid": 0, "username": "app"}, cwd="/etc"
    )
    assert (code, output) == (0, "app\n/etc\n/home/app\n")


def test_a_terminal_has_the_size_that_was_asked(box: Box) -> None:
    """`exec -t` begins with the client's height and width, and the terminal is the process's own."""
    launched = box.start("sleep", "60")
    script = "busybox stty size; echo own > /dev/tty"
    size = {"height": 33, "width": 77}
    assert box.join_terminal(launched, "sh", "-c", script, consoleSize=size) == (0, "33 77\r\nown\r\n")


def test_words_of_failures(box: Box) -> None:
    """What is wrong is said in Docker's words."""
    launched = box.start("sleep", "60")
    with pytest.raises(CommandNotFound, match=r'exec: "nope": executable file not found in \$PATH'):
        box.join(launched, "nope")
    with pytest.raises(KernelError, match=r'chdir to cwd \("/nope"\) set in config.json failed: no such file'):
        box.join(launched, "true", cwd="/nope")
    with pytest.raises(InvalidArgument, match="unable to find user zoe: no matching entries in passwd file"):
        box.join(launched, "true", user={"uid": 0, "gid": 0, "username": "zoe"})
    with pytest.raises(InvalidArgument, match="uids and gids must be in range 0-2147483647"):
        box.join(launched, "true", user={"uid": 0, "gid": 0, "username": "4294967296"})


def test_a_dead_container_cannot_be_joined(box: Box) -> None:
    """A container that ended, or whose pid is another's by now, is not running."""
    launched = box.start("sleep", "60")
    launched.start_time += 1
    with pytest.raises(NotRunning):
        box.join(launched, "true")
    launched.start_time -= 1
    pid, started = launched.pid, launched.start_time
    box.kill(launched)
    launched.pid, launched.start_time = pid, started
    with pytest.raises(NotRunning):
        box.join(launched, "true")


def test_working_directory_by_descriptor_is_refused(box: Box) -> None:
    """`exec -w /proc/self/fd/N` reaches nothing of the host (CVE-2024-21626)."""
    launched = box.start("sleep", "60")
    for number in range(3, 24):
        with pytest.raises(KernelError):
            box.join(launched, "true", cwd=f"/proc/self/fd/{number}")


@pytest.mark.parametrize("held", [True, False], ids=["one memory", "a fork"])
def test_attack_a_joining_process_is_traced(box: Box, monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """Whoever has CAP_SYS_PTRACE in the container never meets a process that has more than the container."""
    sentinel = box.directory / "sentinel"
    sentinel.write_text("of the host")
    kinds = ("bounding", "effective", "permitted")
    box.config["process"]["capabilities"] = {key: [*CAPABILITIES, "CAP_SYS_PTRACE"] for key in kinds}
    if not held:  # where the parent may not trace
        monkeypatch.setattr(join, "hold_after_vfork", lambda _pid: False)
    launched = box.start("sleep", "1000")
    with tracing(launched.pid, sentinel) as tracer:
        attack(tracer, lambda: box.join(launched, "sleep", "0.1"))


@pytest.mark.parametrize("lie", ["b{process_one}", "b{test}", "b1", "b99999999999", "b", "f", "b12x", "x", "{long}"])
def test_attack_a_traced_member_lies(box: Box, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    """A member that says something else than its pid is ended."""
    launched = box.start("sleep", "1000")
    assert box.join(launched, "true") == (0, "")
    before = children()
    began = time.clock_gettime(time.CLOCK_BOOTTIME) + 0.05  # later than process 1, in ticks of the clock
    until(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > began, "time has passed")
    said = lie.format(process_one=launched.pid, test=os.getpid(), long="b" * 5000).encode()

    def say(joiner: Joiner, _word: bytes, _number: int | None) -> None:
        joiner._words._sock.sendmsg([said], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0]))])

    monkeypatch.setattr(Joiner, "_say", say)
    with pytest.raises((HostileInput, KernelError)):
        box.join(launched, "sleep", "1000")
    # a copy of the descriptor that was sent, or the process, would be found by the fixture
    assert children() == before


def test_attack_a_traced_member_keeps_the_channel(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that does not end with the exec does not keep its caller."""
    launched = box.start("sleep", "1000")
    execute = os.execve

    def keep(path: str, args: tuple[str, ...], environment: dict[str, str]) -> None:
        if os.fork() == 0:
            os.close(1)
            os.close(2)
            time.sleep(1000)  # it ends with the container
        execute(path, args, environment)

    monkeypatch.setattr(os, "execve", keep)
    assert box.join(launched, "echo", "there") == (0, "there\n")
