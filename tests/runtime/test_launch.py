"""Containers, really started."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cgroups import needs
from tests.runtime.conftest import Box, terminal_output
from wherry.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    InvalidArgument,
    InvalidSpec,
    KernelError,
    Paused,
    WherryError,
)
from wherry.linux.namespace import namespace_id
from wherry.runtime.cgroups import Cgroup, open_cgroup
from wherry.runtime.launch import Stdio

pytestmark = pytest.mark.root


def test_exit_code_and_output_are_the_programs(box: Box) -> None:
    """What the program writes and returns comes back."""
    assert box.run("sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\nerr\n")


def test_process_one_is_clean(box: Box) -> None:
    """No signal is ignored or blocked, no descriptor but stdio is open, and the rights are exactly those asked for."""
    output = box.sh(
        "grep -E 'SigBlk|SigIgn|CapInh|CapEff|CapBnd|CapAmb' /proc/self/status; ls /proc/self/fd; umask; ps; true"
    )
    assert output.count("0000000000000000") == 4
    assert output.count("00000000000001eb") == 2
    assert "0\n1\n2\n3\n0022\n" in output  # 3 is what ls opened
    assert "    1 root     sh -c" in output


def test_every_default_mount_device_and_mask_is_there(box: Box) -> None:
    """Devices work, masked paths read as nothing, read-only ones refuse."""
    output = box.sh(
        "echo x > /dev/null; cat /proc/keys /proc/timer_list; ls /sys/firmware; hostname; readlink /dev/ptmx;"
        "touch /proc/sys/kernel/domainname 2>&1; (echo 1 > /proc/sys/vm/drop_caches) 2>&1; ls -l /dev/zero"
    )
    assert output.startswith("wherry\npts/ptmx\n")
    assert output.count("Read-only file system") == 2
    assert "1,   5" in output


def test_namespaces_are_new(box: Box) -> None:
    """Every namespace asked for is another than ours, and the hosts' mounts are out of sight."""
    launched = box.start("sleep", "60")
    for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup"):
        assert namespace_id(kind, launched.pid) != namespace_id(kind)
    assert str(box.directory) not in "".join(
        line.split()[4] for line in Path(f"/proc/{launched.pid}/mountinfo").read_text().splitlines()
    )


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (["foo"], CommandNotFound, 'exec: "foo": executable file not found in $PATH'),
        (["/foo"], CommandNotFound, 'exec: "/foo": stat /foo: no such file or directory'),
        (["/etc/passwd"], CommandNotExecutable, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], CommandNotExecutable, 'exec: "/etc": is a directory: permission denied'),
        (["/bin/text"], CommandNotExecutable, 'exec: "/bin/text": exec format error'),
        (["/bin/orphan"], CommandNotFound, 'exec: "/bin/orphan": no such file or directory'),
    ],
)
def test_words_for_programs_that_cannot_be(box: Box, args: list[str], error: type[Exception], words: str) -> None:
    """Clients choose 126 and 127 by these words."""
    for name, text in (("text", "no program\n"), ("orphan", "#!/no/such/interpreter\n")):
        (box.layer / "bin" / name).write_text(text)
        (box.layer / "bin" / name).chmod(0o755)
    with pytest.raises(error) as caught:
        box.start(*args)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}]),
            KernelError,
        ),
        (lambda c: c["process"].update(apparmorProfile="nonesuch"), WherryError),
        (lambda c: c["process"].update(user={"uid": 0, "gid": 0, "username": "nobody-here"}), InvalidArgument),
        (lambda c: c["process"].update(user={"uid": 0, "gid": 0, "username": "bad"}), InvalidArgument),
        (lambda c: c["process"].update(cwd="/etc/passwd"), KernelError),
        (lambda c: c["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/such"}), InvalidSpec),
        (lambda c: c["mounts"].append({"destination": "/x", "type": "nosuchfs"}), KernelError),
        (
            lambda c: c["mounts"].append({"destination": "/proc/sys", "type": "bind", "source": "/tmp"}),
            InvalidSpec,
        ),
        (lambda c: c.update(hooks={"createContainer": [{"path": "/bin/false"}]}), WherryError),
        (lambda c: c.update(hooks={"createRuntime": [{"path": "/bin/false"}]}), WherryError),
    ],
)
def test_a_failure_leaves_nothing(
    box: Box, tmp_path: Path, change: Callable[[dict[str, Any]], None], error: type[Exception]
) -> None:
    """Whichever step fails, no process, mount, descriptor or cgroup is left."""
    change(box.config)
    cgroup = open_cgroup(f"/wherry-test-{os.getpid()}-{tmp_path.name}"[:60])
    seen: list[int] = []
    with pytest.raises(error):
        box.start("true", cgroup=cgroup, concurrently=seen.append)
    assert not cgroup.exists()
    assert all(not Path(f"/proc/{pid}").exists() for pid in seen)


def test_a_failing_network_takes_the_child_along(box: Box) -> None:
    """An error of `concurrently` is raised as it is, and the child is gone."""
    seen: list[int] = []

    def fail(pid: int) -> None:
        seen.append(pid)
        raise WherryError("no address left")

    with pytest.raises(WherryError, match="no address left"):
        box.start("sleep", "60", concurrently=fail)
    assert not Path(f"/proc/{seen[0]}").exists()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESRCH])
def test_parent_and_child_do_not_wait_for_each_other(box: Box, number: int) -> None:
    """The parent stumbles over something that is gone while the child waits for its word: it says so at once."""
    seen: list[int] = []

    def fail(pid: int) -> None:
        seen.append(pid)
        raise KernelError("write cgroup.procs", number)

    begun = time.monotonic()
    with pytest.raises(KernelError, match=r"write cgroup\.procs"):
        box.start("sleep", "60", concurrently=fail)
    assert time.monotonic() - begun < 8
    assert not Path(f"/proc/{seen[0]}").exists()


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[Cgroup]:
    """Give a cgroup below one, neither of which is there yet; both are removed."""
    top = f"/wherry-test-{os.getpid()}-{tmp_path.name}"[:60]
    made = open_cgroup(f"{top}/inner")
    yield made
    for group in (open_cgroup(top), made):
        with contextlib.suppress(WherryError):
            group.freeze(False)
    made.kill()
    open_cgroup(top).remove()


@pytest.mark.parametrize("which", ["its own", "the one above"])
def test_a_start_in_a_frozen_cgroup_fails_at_once(box: Box, cgroup: Cgroup, which: str) -> None:
    """Nobody waits for a child that cannot run; thawed, the next start works."""
    frozen = cgroup if which == "its own" else open_cgroup(os.path.dirname(cgroup.path))
    frozen.create(None)
    frozen.freeze(True)
    begun = time.monotonic()
    with pytest.raises(Conflict, match=f"cgroup unexpectedly frozen: {cgroup.path}"):
        box.start("true", cgroup=cgroup)
    assert time.monotonic() - begun < 15
    assert not cgroup.pids()
    if frozen.exists():
        frozen.freeze(False)
    launched = box.start("sleep", "60", cgroup=cgroup)
    assert cgroup.pids() == [launched.pid]


def test_frozen_in_the_midst_of_a_start(box: Box, cgroup: Cgroup) -> None:
    """Frozen while the parent waits for it, and while another process is to join it: an error, and nothing is left."""
    seen: list[int] = []

    def freeze(pid: int) -> None:
        seen.append(pid)
        cgroup.freeze(True)

    with pytest.raises(Conflict, match="cgroup unexpectedly frozen"):
        box.start("sleep", "60", cgroup=cgroup, concurrently=freeze)
    assert not Path(f"/proc/{seen[0]}").exists()
    launched = box.start("sleep", "60", cgroup=cgroup)
    cgroup.freeze(True)
    with pytest.raises(Paused, match="cannot exec in a paused container"):
        box.join(launched, "true", cgroup=cgroup)
    cgroup.freeze(False)
    assert box.join(launched, "echo", "yes", cgroup=cgroup) == (0, "yes\n")


def test_cgroup_holds_the_process_and_is_mounted_read_only(box: Box, tmp_path: Path) -> None:
    """The container sees its own cgroup as the root, and cannot write there."""
    cgroup = open_cgroup(f"/wherry-test-{os.getpid()}-{tmp_path.name}"[:60])
    try:
        launched = box.start("sh", "-c", "sleep 60 & wait", cgroup=cgroup)
        assert launched.pid in cgroup.pids()
        code, output = box.join(
            launched, "sh", "-c", "cat /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs; true"
        )
        assert code == 0
        assert "\n1\n" in f"\n{output}"
        assert "Read-only" in box.join(launched, "sh", "-c", "mkdir /sys/fs/cgroup/*/x /sys/fs/cgroup/x 2>&1; true")[1]
    finally:
        box.close()
        cgroup.kill()
        cgroup.remove()


@needs("pids")
def test_a_limit_is_seen_inside(box: Box, tmp_path: Path) -> None:
    """The container can look its limits up."""
    cgroup = open_cgroup(f"/wherry-test-{os.getpid()}-{tmp_path.name}"[:60])
    box.config["linux"]["resources"] = {"pids": {"limit": 17}}
    try:
        launched = box.start("sh", "-c", "sleep 60 & wait", cgroup=cgroup)
        code, output = box.join(launched, "sh", "-c", "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max; true")
        assert code == 0
        assert "17" in output
    finally:
        box.close()
        cgroup.kill()
        cgroup.remove()


def test_user_names_are_looked_up_inside(box: Box) -> None:
    """A name brings its groups and home; HOME of a number comes from the file too."""
    box.config["process"]["user"] = {"uid": 0, "gid": 0, "username": "app"}
    assert box.sh("id; echo $HOME") == "uid=1000(app) gid=1000(app) groups=10(wheel),1000(app)\n/home/app\n"
    box.config["process"]["user"] = {"uid": 1000, "gid": 5, "additionalGids": [5, 10], "umask": 0o77}
    assert box.sh("id; echo $HOME; umask") == "uid=1000(app) gid=5 groups=5,10(wheel)\n/home/app\n0077\n"


def test_other_groups_are_looked_up_inside(box: Box) -> None:
    """Names and numbers of `--group-add`, for a named user, and for who has no name; Docker's words for an unknown."""
    box.config["process"]["user"] = {"uid": 0, "gid": 0, "username": "app", "additionalGroups": ["root", "77"]}
    assert set(box.sh("id -G").split()) == {"1000", "10", "0", "77"}
    box.config["process"]["user"]["username"] = "5:6"
    launched = box.start("sleep", "60")
    assert set(box.join(launched, "id", "-G")[1].split()) == {"6", "0", "77"}
    for group, words in (
        ("nosuch", "^Unable to find group nosuch: no matching entries in group file$"),
        ("", "^Unable to find group : no matching"),
        ("4294967296", "^uids and gids must be in range"),
    ):
        box.config["process"]["user"]["additionalGroups"] = [group]
        with pytest.raises(InvalidArgument, match=words):
            box.start("true")


def test_ambient_capabilities_reach_a_user(box: Box) -> None:
    """Who is not root has what is ambient, and with noNewPrivileges too."""
    process = box.config["process"]
    process["user"] = {"uid": 1000, "gid": 1000}
    process["noNewPrivileges"] = True
    kinds = ("bounding", "effective", "permitted", "inheritable", "ambient")
    process["capabilities"] = {kind: ["CAP_NET_BIND_SERVICE"] for kind in kinds}
    output = box.sh("grep -E 'Cap|NoNew' /proc/self/status")
    assert output.count("0000000000000400") == 5
    assert "NoNewPrivs:\t1" in output


def test_read_only_root_and_recursive_read_only_bind(box: Box) -> None:
    """Nothing can be written below either."""
    box.config["root"]["readonly"] = True
    box.config["mounts"].append(
        {"destination": "/mnt", "type": "bind", "source": "/dev", "options": ["rbind", "rro", "rslave"]}
    )
    output = box.sh("touch /a 2>&1; touch /mnt/shm/a 2>&1; mkdir /mnt/x 2>&1; true")
    assert output.count("Read-only file system") == 3


def test_bind_follows_links_inside_the_root_only(box: Box) -> None:
    """An absolute link in the image leads to the image's place, not to the host's; a dangling one is made."""
    (box.layer / "data").symlink_to("/var/lib/data")
    source = box.directory / "volume"
    source.mkdir()
    (source / "file").write_text("kept")
    box.config["mounts"].append(
        {"destination": "/data/sub", "type": "bind", "source": str(source), "options": ["bind"]}
    )
    assert box.sh("cat /var/lib/data/sub/file") == "kept"
    assert not Path("/var/lib/data").exists()


def test_tmpfs_may_start_with_what_it_covers(box: Box) -> None:
    """tmpcopyup copies owner, mode and links; `ro` comes last."""
    (box.layer / "etc/link").symlink_to("passwd")
    os.chown(box.layer / "etc/group", 3, 4)
    box.config["mounts"].append(
        {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro", "size=1m"]}
    )
    output = box.sh("cat /etc/link | grep -c root; stat -c '%u %g' /etc/group; touch /etc/x 2>&1; true")
    assert output.startswith("1\n3 4\n")
    assert "Read-only" in output


@pytest.mark.parametrize(
    ("destination", "options", "mode"),
    [("/new/deep", [], "1777"), ("/home/app", [], "710"), ("/home/app", ["mode=705"], "705"), ("/tmp", ["ro"], "755")],
)
def test_tmpfs_takes_the_mode_of_the_directory_that_it_covers(
    box: Box, destination: str, options: list[str], mode: str
) -> None:
    """Where there was none everybody may write, as Docker has it; a mode that was asked for wins."""
    (box.layer / "home/app").chmod(0o710)
    box.config["mounts"].append({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options})
    assert box.sh(f"stat -c %a {destination}") == f"{mode}\n"
    assert ("mode=" in box.sh(f"grep ' {destination} ' /proc/mounts")) == bool(options and "mode" in options[0])


def test_a_mount_that_fails_says_what_and_where(box: Box) -> None:
    """The child's own words come through, also where they are that something is not there."""
    for destination, options, words in (
        ("/x", ["size=abc"], 'error mounting "tmpfs" to rootfs at "/x": mount tmpfs: invalid argument'),
        ("/proc/x", [], 'error mounting "tmpfs" to rootfs at "/proc/x": mkdir: no such file or directory'),
        ("/etc/passwd", [], 'error mounting "tmpfs" to rootfs at "/etc/passwd": openat2: not a directory'),
    ):
        base = box.config["mounts"]
        box.config["mounts"] = [
            *base,
            {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options},
        ]
        with pytest.raises(KernelError) as caught:
            box.start("true")
        assert str(caught.value) == words
        box.config["mounts"] = base


def test_terminal_is_the_containers_own(box: Box) -> None:
    """The terminal has its size, is the controlling one, and is mounted at /dev/console."""
    process = box.config["process"]
    process["terminal"] = True
    process["consoleSize"] = {"height": 33, "width": 77}
    process["args"] = ["sh", "-c", "tty; busybox stty size; test -c /dev/console && echo console; echo 1 > /dev/tty"]
    launched = box.start(stdio=Stdio(terminal=True))
    assert launched.master is not None
    output = terminal_output(launched.master)
    assert output == b"/dev/pts/0\r\n33 77\r\nconsole\r\n1\r\n"


def test_user_namespace_maps_ids(box: Box) -> None:
    """Root inside is nobody in particular outside, has devices, and a root file system of its ids."""
    box.root_mounts = []
    for path in [box.layer, *box.layer.rglob("*")]:
        os.lchown(path, 200000, 200000)
    for path in (box.directory, *list(box.directory.parents)[:2]):
        path.chmod(0o755)
    box.namespaces({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    box.config["linux"].update(uidMappings=mapping, gidMappings=mapping)
    output = box.sh("id -u; touch /made; echo x > /dev/null; cat /proc/self/uid_map; ls /sys /dev/mqueue > /dev/null")
    assert output.split() == ["0", "0", "200000", "65536"]
    assert (box.layer / "made").stat().st_uid == 200000


def test_an_existing_user_namespace_can_be_shared(box: Box) -> None:
    """Exec enters it with its ids, and another container can be made inside it."""
    box.root_mounts = []
    for path in [box.layer, *box.layer.rglob("*")]:
        os.lchown(path, 200000, 200000)
    for path in (box.directory, *list(box.directory.parents)[:2]):
        path.chmod(0o755)
    mapping = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    box.namespaces({"type": "user"})
    box.config["linux"].update(uidMappings=mapping, gidMappings=mapping)
    first = box.start("sleep", "60")
    assert box.join(first, "sh", "-c", "cat /proc/self/uid_map; id -u")[1].split() == ["0", "200000", "65536", "0"]
    box.namespaces({"type": "user", "path": f"/proc/{first.pid}/ns/user"}, without=("user",))
    box.config["linux"].update(uidMappings=[], gidMappings=[])
    output = box.sh("readlink /proc/self/ns/user; ps; touch /second; grep CapEff /proc/self/status")
    assert output.startswith(os.readlink(f"/proc/{first.pid}/ns/user"))
    assert "sleep 60" not in output
    assert (box.layer / "second").stat().st_uid == 200000


def test_time_namespace_shifts_the_clocks(box: Box) -> None:
    """Boot time is moved inside and not outside."""
    box.namespaces({"type": "time"})
    box.config["linux"]["timeOffsets"] = {"boottime": {"secs": 10_000_000}}
    assert float(box.sh("cat /proc/uptime").split()[0]) > 10_000_000
    assert float(Path("/proc/uptime").read_text().split()[0]) < 10_000_000


def test_sysctl_is_set_inside_only(box: Box) -> None:
    """A namespaced parameter has its value inside."""
    before = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "77", "kernel.msgmax": "9999"}
    assert box.sh("cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax") == "77\n9999\n"
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == before


def test_joined_namespaces(box: Box) -> None:
    """Another container's network and pid namespaces can be shared, by path and by descriptor."""
    first = box.start("sleep", "60")
    box.namespaces({"type": "network", "path": f"/proc/{first.pid}/ns/net"}, without=("network", "pid"))
    other = Box(box.directory / "second")
    other.config["linux"]["namespaces"] = box.config["linux"]["namespaces"]
    fd = os.open(f"/proc/{first.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        output = other.sh("readlink /proc/self/ns/net; ps", namespaces={"pid": fd})
    finally:
        os.close(fd)
    assert output.startswith(os.readlink(f"/proc/{first.pid}/ns/net"))
    assert "sleep 60" in output


def test_hooks_run_in_their_places(box: Box) -> None:
    """Hooks see the state, in the order of the specification; createRuntime runs before the root is entered."""
    log = box.directory / "log"
    text = f'echo $0 $(cat | grep -o \'"status": "[a-z]*"\') >> {log}'
    box.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", text, kind], "env": ["PATH=/bin:/usr/bin"]}]
        for kind in ("prestart", "createRuntime", "createContainer", "poststart")
    }
    box.config["hooks"]["startContainer"] = [
        {"path": "/bin/sh", "args": ["sh", "-c", "echo inside > /tmp/hook"], "env": ["PATH=/bin"]}
    ]
    assert box.sh("cat /tmp/hook") == "inside\n"
    assert log.read_text().splitlines() == [
        'prestart "status": "creating"',
        'createRuntime "status": "creating"',
        'createContainer "status": "creating"',
        'poststart "status": "running"',
    ]


def test_many_layers_fit_one_mount(box: Box) -> None:
    """Layers whose paths overflow the option page are named by descriptor."""
    layers = []
    for number in range(100):
        layer = box.directory / "a-layer-with-a-long-name-as-digests-have-it" / f"{number:064d}"
        layer.mkdir(parents=True)
        (layer / f"file{number}").touch()
        layers.append(str(layer))
    old = box.root_mounts[0]
    options = (f"lowerdir={':'.join([*layers, str(box.layer)])}", *old.options[1:])
    box.root_mounts[0] = type(old)("/", "overlay", "overlay", options)
    assert box.sh("ls / | grep -c file") == "100\n"


def test_without_namespaces_it_runs_on_the_host(box: Box) -> None:
    """Helpers run in the host's namespaces and root."""
    box.root_mounts = []
    box.config.update(root={"path": "/"}, mounts=[], hostname="")
    box.config["linux"] = {}
    box.config["process"]["cwd"] = "/tmp"
    box.config["process"]["env"] = ["PATH=/bin:/usr/bin"]
    assert box.sh("pwd; readlink /proc/self/ns/mnt") == f"/tmp\n{os.readlink('/proc/self/ns/mnt')}\n"
