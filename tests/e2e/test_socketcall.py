"""Sockets of 32-bit x86 programs, which make them by socketcall(2): Debian's i386 Python in containers."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import debian
from tests.e2e.harness import WHERRYD, EngineProcess, running, until
from tests.e2e.shared import lent
from tests.volumes.test_userns import subordinate
from wherry.oci.seccomp_profile import default_profile

__all__ = ["subordinate"]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls by the numbers of x86_64"),
]

PACKAGES = ("python3", "busybox-static", "base-files")
IMAGE, STATIC = "thirtytwo:python", "thirtytwo:static"

PING_77 = ("--sysctl", "net.ipv4.ping_group_range=77 77")

# socketcall(2) and socket(2) by their numbers; the error's name, or the socket's properties
PRELUDE = """
import ctypes, errno, fcntl, json, os, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
assert struct.calcsize("P") == 4
def by_socketcall(*words):
    return libc.syscall(102, 1, (ctypes.c_int * 3)(*words))
def directly(*words):
    return libc.syscall(359, *words)
def outcome(fd):
    if fd < 0:
        return errno.errorcode[ctypes.get_errno()]
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
    found = [fd]
    for name in (socket.SO_DOMAIN, socket.SO_TYPE, socket.SO_PROTOCOL):
        try:
            found.append(made.getsockopt(socket.SOL_SOCKET, name))
        except OSError as error:
            found.append(str(error))
    found += [fcntl.fcntl(fd, fcntl.F_GETFD), fcntl.fcntl(fd, fcntl.F_GETFL), os.fstat(fd).st_uid]
    made.close()
    return found
"""

ALL_WORDS = """
words = [(family, kind, 0) for family in range(47) for kind in (1, 3)]
words += [(2, 1 | flags, 0) for flags in (0o4000, 0o2000000, 0o2004000, 0o40000, 1 << 30, -1 << 31)]
protocols = (1, 6, 17, 58, 255, 262, -1)
words += [(family, kind, protocol) for family in (2, 10) for kind in (1, 2, 3, 5) for protocol in protocols]
words += [(-1, 1, 0), (1 << 30, 1, 0), (17, 3, 0x300), (17, 2, 0x300), (16, 3, 15), (2, 10, 0x300), (2, 11, 0)]
got = {str(each): [outcome(by_socketcall(*each)), outcome(directly(*each))] for each in words}
different = {each: pair for each, pair in got.items() if pair[0] != pair[1]}
made = sum(isinstance(pair[0], list) for pair in got.values())
closed = [outcome(make(family, 1, 0)) for make in (by_socketcall, directly) for family in (38, 40)]
print(json.dumps({"different": different, "made": made, "closed": closed,
                  "raw": str(outcome(by_socketcall(2, 3, 1))), "ping": str(outcome(by_socketcall(2, 2, 1)))}))
"""


class Thirtytwo(EngineProcess):
    """An engine with 32-bit images."""

    def python(self, *flags: str, image: str = IMAGE, code: str) -> Any:
        """Run Python's `code`, after the prelude, in a container; return the JSON value that it prints."""
        done = self.docker("run", "--rm", *flags, image, "python3", "-c", PRELUDE + code)
        return json.loads(done.out)


@pytest.fixture(scope="module")
def module_engine() -> Iterator[Thirtytwo]:
    """Give an engine with two images: one of Debian's packages, one of nothing but a static program."""
    root = debian.tree("i386", PACKAGES, variant="extract", architecture="i386")
    buffer = io.BytesIO()
    with tarfile.open(root) as packages, tarfile.open(fileobj=buffer, mode="w") as archive:
        program = next(each for each in packages if each.isfile() and each.name.endswith("/bin/busybox"))
        content = packages.extractfile(program)
        program.name = "bin/busybox"
        archive.addfile(program, content)
        for name in ("sh", "ping", "nc"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        script = b"#!/bin/sh\nexec ping -c 1 -W 5 127.0.0.1\n"
        entry = tarfile.TarInfo("entry")
        entry.size, entry.mode = len(script), 0o755
        archive.addfile(entry, io.BytesIO(script))
    engine = Thirtytwo()
    with running(engine):
        engine.docker("import", "--platform", "linux/386", str(root), IMAGE)
        engine.docker("import", "--platform", "linux/386", "-", STATIC, stdin=buffer.getvalue())
        yield engine


@pytest.fixture(scope="module")
def unified_engine() -> Iterator[Thirtytwo]:
    """Give an engine that sees cgroup v2 alone."""
    script = 'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    made = Thirtytwo(program=("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", WHERRYD))
    with running(made):
        root = debian.tree("i386", PACKAGES, variant="extract", architecture="i386")
        made.docker("import", "--platform", "linux/386", str(root), IMAGE)
        yield made


@pytest.fixture(params=["engine", "unified_engine"])
def any_engine(request: pytest.FixtureRequest) -> Thirtytwo:
    """Give an engine with this machine's cgroups, and one with v2 alone."""
    found: Thirtytwo = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def engine(module_engine: Thirtytwo) -> Iterator[Thirtytwo]:
    """Give the shared engine; what the test made is removed after it, and nothing of a container is left."""
    with lent(module_engine):
        yield module_engine
        assert not list(Path(module_engine.roots.data).glob("containers/*/monitor.err"))
    module_engine.assert_nothing_runs()


def test_a_server_and_a_client_that_finds_it_by_name(engine: Thirtytwo) -> None:
    """TCP between two containers, names from the network's resolver (UDP), unix sockets and pairs of them."""
    engine.docker("network", "create", "inner")
    serve = """
server = socket.create_server(("0.0.0.0", 80))
while True:
    client, _ = server.accept()
    client.sendall(client.recv(100).upper())
    client.close()
"""
    detached = ("run", "-d", "--name", "server", "--network", "inner")
    engine.docker(*detached, IMAGE, "python3", "-c", PRELUDE + serve)
    ask = """
for attempt in range(200):
    try:
        client = socket.create_connection(("server", 80), 5)
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
client.sendall(b"hello")
left, right = socket.socketpair()
left.sendall(b"pair")
listener = socket.socket(socket.AF_UNIX)
listener.bind("/tmp/socket")
listener.listen()
caller = socket.socket(socket.AF_UNIX)
caller.connect("/tmp/socket")
accepted, _ = listener.accept()
credentials = struct.unpack("3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
print(json.dumps([client.recv(100).decode(), right.recv(9).decode(), credentials[0] == os.getpid()]))
"""
    assert engine.python("--network", "inner", code=ask) == ["HELLO", "pair", True]


@pytest.mark.parametrize(
    ("flags", "raw", "ping"),
    [
        ((), True, True),
        (("--cap-drop", "ALL", *PING_77), False, False),
        (("--cap-drop", "ALL", "--cap-add", "NET_RAW", "--user", "0:77", *PING_77), True, True),
        (("--user", "1000:1000", "--group-add", "77", *PING_77), False, True),
        (("--user", "1000:1000", "--network", "none", *PING_77), False, False),
        (("--pid", "host", "--network", "host", "--security-opt", "no-new-privileges"), True, None),
    ],
)
def test_the_kernel_answers_as_to_the_program_itself(
    engine: Thirtytwo, flags: tuple[str, ...], raw: bool, ping: bool | None
) -> None:
    """Whatever the arguments, and whoever asks: by socketcall(2) exactly what socket(2) gives, or the same error."""
    found = engine.python(*flags, code=ALL_WORDS)
    assert found["different"] == {}
    assert found["made"] > 10
    assert found["closed"] == ["EPERM"] * 4
    assert found["raw"].startswith("[") is raw
    assert ping is None or found["ping"].startswith("[") is ping


def test_errors_of_the_call_itself(engine: Thirtytwo) -> None:
    """Memory that is not there, and a full table of descriptors; other subcalls never leave the kernel."""
    code = """
import mmap, resource
page = mmap.mmap(-1, 4096)
end = ctypes.addressof(ctypes.c_char.from_buffer(page)) + 4096
libc.munmap(ctypes.c_void_p(end), 4096)
found = [outcome(libc.syscall(102, 1, ctypes.c_void_p(at))) for at in (0, 4, 0xfffffff0, 0xffffffff)]
found.append(outcome(libc.syscall(102, 99, 0)))
resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))
held = [by_socketcall(2, 1, 0) for _ in range(4)]
found += [held[:2], outcome(held[-1]) if held[-1] >= 0 else errno.errorcode[ctypes.get_errno()]]
print(json.dumps(found))
"""
    assert engine.python(code=code) == [*["EFAULT"] * 4, "EINVAL", [3, 4], "EMFILE"]


def test_every_way_into_a_container(engine: Thirtytwo) -> None:
    """Process 1, exec, health checks, steps of a build, an image of a commit; a static program behind a script."""
    code = PRELUDE + "print(isinstance(outcome(by_socketcall(2, 1, 0)), list), outcome(by_socketcall(40, 1, 0)))"
    step = json.dumps(["python3", "-c", code + "; open('/step', 'w').write('done')"])
    check = json.dumps(["python3", "-c", code + "; sys.exit(by_socketcall(2, 1, 0) < 0)"])
    steps = f"FROM {IMAGE}\nRUN {step}\nHEALTHCHECK --interval=200ms CMD {check}\n"
    engine.docker("build", "-t", "built", "-", stdin=steps.encode())
    engine.docker("run", "-d", "--name", "box", "built", "python3", "-c", "import time; time.sleep(1000)")
    assert engine.docker("exec", "box", "busybox", "cat", "/step").out == "done"
    assert engine.docker("exec", "box", "python3", "-c", code).out == "True EPERM\n"
    assert engine.docker("exec", "-u", "1000", "box", "python3", "-c", code).out == "True EPERM\n"
    status = ("inspect", "-f", "{{json .State.Health}}", "box")
    until(lambda: '"healthy"' in engine.docker(*status).out, "it is healthy")
    assert json.loads(engine.docker(*status).out)["Log"][-1]["Output"] == "True EPERM\n"
    engine.docker("commit", "box", "committed")
    assert engine.docker("run", "--rm", "committed", "python3", "-c", code).out == "True EPERM\n"
    assert engine.docker("image", "inspect", "-f", "{{.Architecture}}", "committed").out == "386\n"
    assert "0% packet loss" in engine.docker("run", "--rm", STATIC, "/entry").out
    assert "0% packet loss" in engine.docker("run", "--rm", STATIC, "ping", "-c", "1", "127.0.0.1").out
    engine.docker("restart", "-t", "0", "box")
    assert engine.docker("exec", "box", "python3", "-c", code).out == "True EPERM\n"


def test_32_bit_programs_in_an_image_of_amd64(engine: Thirtytwo) -> None:
    """What counts are the files, not the image's word; a container without any has a filter that asks nobody."""
    root = debian.tree("i386", PACKAGES, variant="extract", architecture="i386")
    engine.docker("import", "--platform", "linux/amd64", str(root), "mixed")
    code = "print(json.dumps([outcome(by_socketcall(family, 1, 0))[:1] for family in (2, 40)]))"
    assert engine.python(image="mixed", code=code) == [[3], "E"]
    engine.docker("run", "-d", "--name", "plain", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "asks", STATIC, "sh", "-c", "exec nc -l -p 80")
    assert [_listeners(engine, name) for name in ("plain", "asks")] == [0, 1]


def _listeners(engine: Thirtytwo, name: str) -> int:
    """How many listeners of filters the container's monitor has."""
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", name).out.strip()
    monitor = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    links = [os.readlink(link) for link in Path(f"/proc/{monitor}/fd").iterdir() if link.is_symlink()]
    return sum(link == "anon_inode:seccomp notify" for link in links)


def test_listeners_of_ended_processes_are_closed(engine: Thirtytwo) -> None:
    """A monitor keeps none of an exec that is over."""
    engine.docker("run", "-d", "--name", "box", STATIC, "sh", "-c", "exec nc -l -p 80")
    for _ in range(3):
        engine.docker("exec", "box", "ping", "-c", "1", "127.0.0.1")
    until(lambda: _listeners(engine, "box") == 1, "only that of process 1 is left")


def test_other_profiles_stay_as_they_are(engine: Thirtytwo) -> None:
    """Unconfined and privileged containers have every family; a user's profile does what it says."""
    code = "print(json.dumps([str(outcome(by_socketcall(family, 1, 0)))[:6] for family in (2, 40)]))"
    unconfined = engine.python("--security-opt", "seccomp=unconfined", code=code)
    assert unconfined[0].startswith("[3")
    assert unconfined[1] != "EPERM"
    assert engine.python("--privileged", code=code) == unconfined
    ours = engine.base / "profile.json"
    ours.write_text(json.dumps(default_profile()))
    assert engine.python("--security-opt", f"seccomp={ours}", code=code) == ["EPERM", "EPERM"]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "archMap": default_profile()["archMap"]}
    ours.write_text(json.dumps(profile))
    assert engine.python("--security-opt", f"seccomp={ours}", code=code) == unconfined


def test_attack_memory_that_changes_after_the_look(engine: Thirtytwo) -> None:
    """A second thread rewrites the family all the time: what is made is of the family that was looked at.

    EAFNOSUPPORT, or a socket, would say that the kernel itself was asked for a closed family.
    """
    code = """
words = (ctypes.c_int * 3)(2, 1, 0)
stop = False
flips = 0
def rewrite():
    global flips
    while not stop:
        words[0] = 40
        words[0] = 38
        words[0] = 2
        flips += 1
sys.setswitchinterval(1e-5)
threading.Thread(target=rewrite).start()
seen = {}
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    before = flips
    got = outcome(libc.syscall(102, 1, words))
    key = str(got[1] if isinstance(got, list) else got) + (" changed" if flips > before + 1 else "")
    seen[key] = seen.get(key, 0) + 1
    if min(seen.get("2 changed", 0), seen.get("EPERM changed", 0)) >= 50:
        break
stop = True
print(json.dumps(seen))
"""
    seen = engine.python(code=code)
    assert {key.split()[0] for key in seen} == {"2", "EPERM"}, seen
    assert min(seen["2 changed"], seen["EPERM changed"]) >= 50, seen


def test_the_socket_is_of_the_callers_network_namespace(engine: Thirtytwo) -> None:
    """Also where a thread has made one of its own; and in a user namespace of its own its capabilities count there."""
    code = """
SIOCGSKNS, NEWNET, NEWUSER = 0x894C, 0x40000000, 0x10000000
def same(make):
    fd = make(2, 1, 0)
    namespace = fcntl.ioctl(fd, SIOCGSKNS)
    return os.fstat(namespace).st_ino == os.stat("/proc/thread-self/ns/net").st_ino
found = [same(by_socketcall)]
def thread():
    before = os.stat("/proc/thread-self/ns/net").st_ino
    assert libc.unshare(NEWNET) == 0, ctypes.get_errno()
    found.append(os.stat("/proc/thread-self/ns/net").st_ino != before and same(by_socketcall))
worker = threading.Thread(target=thread)
worker.start()
worker.join()
found.append(same(by_socketcall))
pid = os.fork()
if pid == 0:
    os.setresuid(1000, 1000, 1000)
    before = outcome(by_socketcall(2, 3, 1))
    result = libc.unshare(NEWUSER | NEWNET)
    os._exit(0 if before == "EPERM" and result == 0 and same(by_socketcall)
             and outcome(by_socketcall(2, 3, 1)) == outcome(directly(2, 3, 1)) != "EPERM" else 1)
found.append(os.waitpid(pid, 0)[1] == 0)
print(json.dumps(found))
"""
    flags = ("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--security-opt", "systempaths=unconfined")
    assert engine.python(*flags, code=code) == [True] * 4


@pytest.fixture
def remapped(subordinate: str) -> Iterator[Thirtytwo]:
    """Give an engine with `userns-remap`."""
    made = Thirtytwo()
    made.configure({"userns-remap": subordinate})
    with running(made):
        root = debian.tree("i386", PACKAGES, variant="extract", architecture="i386")
        made.docker("import", "--platform", "linux/386", str(root), IMAGE)
        yield made


def test_in_a_user_namespace(remapped: Thirtytwo) -> None:
    """Ids and capabilities are those of the namespace, which owns the network, too."""
    flags = ("--user", "1000:77", *PING_77)
    for words, raw, uid in (((), True, 0), (flags, False, 1000), (("--cap-drop", "ALL"), False, 0)):
        found = remapped.python(*words, code=ALL_WORDS)
        assert found["different"] == {}
        assert found["closed"] == ["EPERM"] * 4
        assert found["raw"].startswith("[") is raw
        assert found["ping"].endswith(f", {uid}]")


def test_signals_and_a_full_pids_limit_fail_no_call(engine: Thirtytwo) -> None:
    """A timer that fires quicker than a socket is made does not restart the call for ever."""
    code = """
fired = 0
def alarm(*_):
    global fired
    fired += 1
signal.signal(signal.SIGALRM, alarm)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
found = [isinstance(outcome(by_socketcall(2, 1, 0)), list) for _ in range(50)]
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps([all(found), fired > 10]))
"""
    assert engine.python("--pids-limit", "1", code=code) == [True, True]


STORM = """
failed = []
def storm():
    while True:
        got = outcome(by_socketcall(2, 1, 0))
        if not isinstance(got, list):
            failed.append(got)
            print(got, flush=True)
for _ in range(4):
    threading.Thread(target=storm).start()
print("on", flush=True)
"""


def test_pause_and_kill_in_a_storm_of_sockets(any_engine: Thirtytwo) -> None:
    """What is under way when a container is frozen is answered first; nothing fails, and nothing is left at the end.
    The processes that make the sockets are in the container's cgroup: its limits count for them."""
    engine = any_engine
    engine.docker("run", "-d", "--name", "storm", IMAGE, "python3", "-c", PRELUDE + STORM)
    until(lambda: "on" in engine.docker("logs", "storm").out, "it runs")
    top = engine.docker("inspect", "-f", "{{.Id}}", "storm").out.strip()

    def makers() -> bool:
        names = []
        for pid in engine.group(f"containers/{top}"):
            try:
                names.append(Path(f"/proc/{pid}/comm").read_text())
            except OSError:
                continue
        return "wherry-socket\n" in names

    until(makers, "a process that makes a socket is in the cgroup")
    for _ in range(10):
        engine.docker("pause", "storm")
        engine.docker("unpause", "storm")
    assert engine.docker("logs", "storm").out == "on\n"
    until(makers, "it goes on")
    engine.docker("kill", "storm")
    engine.docker("rm", "storm")


def test_a_container_with_branches_of_its_own(unified_engine: Thirtytwo) -> None:
    """In cgroup v2 the container's top holds no process then: a socket is made in the branch of who asked."""
    code = """
top = "/sys/fs/cgroup"
os.mkdir(top + "/branch")
open(top + "/branch/cgroup.procs", "w").write("0")
controller = open(top + "/cgroup.controllers").read().split()[0]
open(top + "/cgroup.subtree_control", "w").write("+" + controller)
print(json.dumps([outcome(by_socketcall(family, 1, 0))[:1] for family in (2, 40)]))
"""
    flags = ("--privileged", "--security-opt", "seccomp=builtin", "--cgroupns", "private")
    assert unified_engine.python(*flags, code=code) == [[3], "E"]
