"""`cp` both ways, by both commands: what they make of each form, and what a container cannot make of it."""

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.harness import BIN, Done, EngineProcess, until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root

_PREPARE = """mkdir -p /d/e /d/empty /ww /o/f; echo f > /d/f; ln -s f /d/lf; ln -s e /d/le; ln -s /nope /d/ln
ln -s /d /ld
ln /d/f /d/hf; echo x > /o/a; echo v > /vol/vf; mkfifo /ww/fifo; touch /ready"""


@pytest.fixture
def box(engine: EngineProcess) -> EngineProcess:
    """Give the engine with a running container `cc`, which has a volume at /vol and a read-only one at /ro."""
    script = f"{_PREPARE}; exec sleep 600"
    engine.docker("run", "-d", "--name", "cc", "-v", "v1:/vol", "-v", "v2:/ro:ro", "busybox", "sh", "-c", script)
    engine.docker("exec", "cc", "sh", "-c", "until test -e /ready; do sleep 0.05; done")
    return engine


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Give a directory with what is copied from here."""
    src = tmp_path / "src"
    (src / "sub").mkdir(parents=True)
    (src / "plain").write_text("plain\n")
    (src / "plain").chmod(0o640)
    (src / "sub/x").write_text("x\n")
    (src / "link").symlink_to("plain")
    (src / "dirlink").symlink_to("sub")
    os.link(src / "plain", src / "hard")
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("old\n")
    return tmp_path


FORMS = [
    # out
    ("cc:/d/f", "new"),
    ("cc:/d/f", "dir"),
    ("cc:/d/f", "dir/"),
    ("cc:/d/f", "file"),
    ("cc:/d/f", "no/such"),
    ("cc:/d/f", "new/"),
    ("cc:/d/f", "file/"),
    ("cc:/d", "new"),
    ("cc:/d", "dir"),
    ("cc:/d", "file"),
    ("cc:/d/", "dir"),
    ("cc:/d/.", "new"),
    ("cc:/d/.", "dir"),
    ("cc:/d/lf", "new"),
    ("-L cc:/d/lf", "new"),
    ("-L cc:/d/lf", "dir"),
    ("-L cc:/ld", "dir"),
    ("-L cc:/ld", "new"),
    ("cc:/ld", "dir"),
    ("cc:/ld/", "dir"),
    ("cc:/d/le/.", "dir"),
    ("cc:/d/ln", "new"),
    ("-L cc:/d/ln", "new"),
    ("cc:/nope", "new"),
    ("cc:/d/f/", "new"),
    ("cc:", "new"),
    ("nope:/x", "new"),
    ("cc:/vol", "new"),
    ("cc:d/f", "new"),
    ("-a cc:/d", "new"),
    # in
    ("src/plain", "cc:/ww"),
    ("src/plain", "cc:/ww/"),
    ("src/plain", "cc:/ww/new"),
    ("src/plain", "cc:/ww/new/"),
    ("src/plain", "cc:/nope/new"),
    ("src/plain", "cc:/d/f"),
    ("src/plain", "cc:/d/lf"),
    ("src/plain", "cc:/d/ln"),
    ("src/plain", "cc:/ld"),
    ("src/plain/", "cc:/ww"),
    ("src", "cc:/ww"),
    ("src", "cc:/ww/new"),
    ("src/", "cc:/ww"),
    ("src/.", "cc:/ww"),
    ("src/.", "cc:/ww/new"),
    ("src", "cc:/d/f"),
    ("src/link", "cc:/ww"),
    ("-L src/link", "cc:/ww"),
    ("-L src/dirlink", "cc:/ww"),
    ("src/dirlink", "cc:/ww"),
    ("src/dirlink/", "cc:/ww"),
    ("src/nope", "cc:/ww"),
    ("src/plain", "cc:"),
    ("src/plain", "nope:/x"),
    ("src/plain", "cc:/o/f/deep"),
    ("src/sub", "cc:/o/a"),
    ("src/plain", "cc:/vol"),
    ("src/plain", "cc:/ro"),
    ("-a src", "cc:/ww"),
    # neither
    ("a", "b"),
    ("cc:/a", "cc:/b"),
    ("./cc:x", "cc:/ww"),
    ("", "cc:/"),
    ("cc:/d", ""),
    ("-", "-"),
]


def _state(base: Path) -> str:
    return subprocess.run(
        ["find", ".", "-printf", "%p %y %m %U %G %l %n\n"], cwd=base, capture_output=True, text=True, check=True
    ).stdout


def _sorted(text: str) -> list[str]:
    return sorted(text.splitlines())


@pytest.mark.parametrize("way", ["out", "in"])
def test_every_form_as_the_docker_command_has_it(box: EngineProcess, here: Path, tmp_path: Path, way: str) -> None:
    """The same arguments, the same files with the same owners and modes, the same words."""
    different = []
    inside = f"find /ww /d /o /vol -exec stat -c '%n %f %u %g %h %N' {{}} +; rm -rf /ww /d /o /ld /vol/*; {_PREPARE}"
    for source, target in FORMS:
        if ("cc:" in target) != (way == "in"):
            continue
        seen = []
        for program in ("docker", str(BIN / "wherry")):
            work = tmp_path / "work"
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(here, work, symlinks=True, ignore=shutil.ignore_patterns("work"))
            # what a link was made of is a link again
            os.unlink(work / "src/hard")
            os.link(work / "src/plain", work / "src/hard")
            done = subprocess.run(
                [program, "cp", *source.split(" "), target], cwd=work, env=box.env, capture_output=True, check=False
            )
            told = Done(done.returncode, done.stdout, done.stderr)
            state = box.docker("exec", "cc", "sh", "-c", inside).out if way == "in" else _state(work)
            # the docker command's own log tells how its archiver was stopped
            lines = [line for line in told.err.splitlines() if not line.startswith("time=")]
            words = "\n".join(lines).replace("docker", "wherry")
            seen.append((told.code, words, _sorted(state)))
        if seen[0] != seen[1]:
            different.append(
                f"{source} {target}:\n  {seen[0][:2]}\n  {seen[1][:2]}\n  {set(seen[0][2]) ^ set(seen[1][2])}"
            )
    assert not different, "\n".join(different)


def test_streams(box: EngineProcess, here: Path) -> None:
    """A tar archive on stdin and stdout, by both commands."""
    for command in (box.docker, box.wherry):
        raw = subprocess.run(["tar", "cc", "src"], cwd=here, capture_output=True, check=True).stdout
        command("cp", "-", "cc:/ww", stdin=raw)
        assert box.docker("exec", "cc", "cat", "/ww/src/sub/x").out == "x\n"
        refused = command("cp", "-", "cc:/d/f", stdin=raw, code=1).err
        assert refused == 'destination "cc:/d/f" must be a directory\n'
    for program in ("docker", str(BIN / "wherry")):
        out = subprocess.run([program, "cp", "cc:/d", "-"], env=box.env, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(out)) as archive:
            assert archive.getnames() == ["d", "d/e", "d/empty", "d/f", "d/hf", "d/le", "d/lf", "d/ln"]


def test_containers_that_do_not_run(engine: EngineProcess, here: Path) -> None:
    """Created ones and stopped ones: what was put in is there at the start, in layer and volume; what is taken, too."""
    engine.docker(
        "create", "--name", "cc", "-v", "v1:/vol", "busybox", "sh", "-c", "cat /new/x /vol/x; echo out > /made"
    )
    engine.docker("cp", f"{here}/src/sub", "cc:/new")
    engine.wherry("cp", f"{here}/src/sub/x", "cc:/vol/x")
    assert engine.docker("start", "-a", "cc").out == "x\nx\n"
    engine.wherry("cp", "cc:/made", f"{here}/made")
    assert (here / "made").read_text() == "out\n"
    assert engine.docker("run", "--rm", "-v", "v1:/v", "busybox", "cat", "/v/x").out == "x\n"
    engine.docker("start", "-a", "cc")
    assert not engine.mounts()


def test_read_only(engine: EngineProcess, here: Path) -> None:
    """Nothing is written where the container could not, running or not."""
    for run in (("create",), ("run", "-d")):
        flags = ("--read-only", "-v", "v1:/vol", "-v", "v2:/ro:ro", "--tmpfs", "/t")
        engine.docker(*run, "--name", "cc", *flags, "busybox", "sleep", "600")
        words = engine.docker("cp", f"{here}/src", "cc:/", code=1).err
        assert "container rootfs is marked read-only" in words
        words = engine.docker("cp", f"{here}/src", "cc:/ro", code=1).err
        assert "mounted volume is marked read-only" in words
        engine.docker("cp", f"{here}/src", "cc:/vol")
        engine.docker("rm", "-f", "cc")


def test_a_full_volume(engine: EngineProcess, here: Path) -> None:
    """A file that does not fit is named with the reason; those that came before it stay."""
    options = ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=64k")
    engine.docker("volume", "create", *options, "small")
    engine.docker("run", "-d", "--name", "cc", "-v", "small:/vol", "busybox", "sleep", "600")
    (here / "big").write_bytes(bytes(1 << 20))
    engine.docker("cp", str(here / "src"), "cc:/vol")
    said = engine.docker("cp", str(here / "big"), "cc:/vol", code=1).err
    assert said.startswith("Error response from daemon: ") and "no space left on device" in said and "big" in said
    assert engine.docker("exec", "cc", "cat", "/vol/src/plain").out == "plain\n"


def test_a_file_from_the_epoch(box: EngineProcess, tmp_path: Path) -> None:
    """A time of 0 is a time, also in the header of the answer."""
    box.docker("exec", "cc", "touch", "-d", "@0", "/d/f")
    box.docker("cp", "cc:/d/f", str(tmp_path))
    assert (tmp_path / "f").stat().st_mtime == 0
    script = "curl -sI --unix-socket {} 'http://d/containers/cc/archive?path=/d/f' | grep -i path-stat | cut -d' ' -f2"
    header = box.run("sh", "-c", f"{script.format(box.roots.socket)} | base64 -d 2>/dev/null; true").out
    assert '"1970-01-01T00:00:00Z"' in header


def test_chown(box: EngineProcess, here: Path) -> None:
    """`--chown` by name and number, `-a` for the container's user; without them the archive's owners stay."""
    os.chown(here / "src/plain", 33, 44)
    box.docker("exec", "cc", "sh", "-c", "echo app:x:7:8::/:/bin/sh >> /etc/passwd; echo grp:x:9: >> /etc/group")

    def owner(*flags: str) -> str:
        box.wherry("cp", *flags, f"{here}/src/plain", "cc:/ww/o")
        return box.docker("exec", "cc", "stat", "-c", "%u:%g", "/ww/o").out.strip()

    assert owner() == "33:44"
    assert owner("--chown", "app") == "7:8"
    assert owner("--chown", "app:grp") == "7:9"
    assert owner("--chown", "12:13") == "12:13"
    assert "unable to find user nope" in box.wherry("cp", "--chown", "nope", f"{here}/file", "cc:/ww", code=1).err
    box.docker("run", "-d", "--name", "uu", "-u", "5:6", "busybox", "sleep", "600")
    box.docker("cp", "-a", f"{here}/src/plain", "uu:/tmp/o")
    assert box.docker("exec", "uu", "stat", "-c", "%u:%g", "/tmp/o").out == "5:6\n"


def test_attack_privileged_files_of_a_container(box: EngineProcess, tmp_path: Path) -> None:
    """A copy gives its reader no set-user-ID program and no device; with `-a` root has asked for them."""
    script = "cp /bin/busybox /d/e/su; chmod 6755 /d/e/su; mkdir /d/g; chmod 2755 /d/g; mknod /d/null c 1 3"
    box.docker("exec", "cc", "sh", "-c", script)
    box.wherry("cp", "cc:/d/e", str(tmp_path))
    assert (tmp_path / "e/su").stat().st_mode & 0o7777 == 0o755
    box.wherry("cp", "cc:/d/g", str(tmp_path))
    assert (tmp_path / "g").stat().st_mode & 0o7777 == 0o2755
    refused = box.wherry("cp", "cc:/d/null", f"{tmp_path}/null", code=1).err
    assert "'null' is a device node, which would be a device of this machine: root gets it with --archive" in refused
    assert not (tmp_path / "null").exists()
    box.wherry("cp", "-a", "cc:/d/e", str(tmp_path))
    assert (tmp_path / "e/su").stat().st_mode & 0o7777 == 0o6755
    box.wherry("cp", "-a", "cc:/d/null", f"{tmp_path}/null")
    assert (tmp_path / "null").is_char_device()


@pytest.mark.parametrize("make", ["mkfifo /etc/passwd", "ln -s /dev/zero /etc/passwd", "truncate -s 1G /etc/passwd"])
def test_account_files_that_never_end(engine: EngineProcess, here: Path, make: str) -> None:
    """Names of a container whose account file is a FIFO, a device or endless are refused, at once."""
    engine.docker(
        "run", "-d", "--name", "cc", "busybox", "sh", "-c", f"rm /etc/passwd; {make}; touch /ready; sleep 600"
    )
    until(lambda: engine.docker("cp", "cc:/ready", str(here), check=False).code == 0, "the file is in its place")
    refused = engine.wherry("cp", "--chown", "app", f"{here}/file", "cc:/tmp", code=1).err
    assert "/etc/passwd" in refused
    engine.wherry("cp", "--chown", "5:6", f"{here}/file", "cc:/tmp", check=False)


# -- section B of the list of attacks


def test_libraries_and_codecs_of_the_container_are_not_loaded(
    engine: EngineProcess, sentinel: Path, tmp_path: Path
) -> None:
    """CVE-2019-14271: the container has its own name service libraries and its own standard library: all unread."""
    import encodings
    import sysconfig

    evil = tmp_path / "evil"
    stdlib = Path(encodings.__file__).parent.parent
    for place in (stdlib, Path(sysconfig.get_paths()["purelib"])):
        target = evil / str(place).lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        for module in ("encodings/idna", "encodings/__init__", "pwd", "tarfile", "linecache", "traceback", "warnings"):
            (target / module).parent.mkdir(exist_ok=True)
            (target / f"{module}.py").write_text("open('/planted', 'w')\n")
    for directory in ("lib", "lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
        (evil / directory).mkdir(parents=True, exist_ok=True)
        for library in ("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1"):
            (evil / directory / library).write_bytes(b"\x7fELF not a library")
    (evil / "etc").mkdir()
    (evil / "etc/nsswitch.conf").write_text("passwd: files dns evil\ngroup: evil\nhosts: evil\n")
    engine.docker("create", "--name", "cc", "busybox", "sleep", "600")
    engine.docker("cp", f"{evil}/.", "cc:/")
    for state in ("created", "running"):
        if state == "running":
            engine.docker("start", "cc")
        engine.wherry("cp", "--chown", "nobody-here", f"{evil}/etc", "cc:/tmp", check=False)
        engine.docker("cp", f"{evil}/etc", "cc:/tmp")
        engine.docker("cp", "cc:/tmp/etc", str(tmp_path / state))
        engine.docker("cp", "cc:/\udcff\udcfe", str(tmp_path / "odd"), check=False)
        assert engine.docker("cp", "cc:/planted", str(tmp_path / "planted"), check=False).code == 1


def test_parents_are_made_inside(engine: EngineProcess, sentinel: Path) -> None:
    """CVE-2021-41089: entries with `..`, absolute ones, and links on the way make nothing outside of the container."""
    engine.docker("run", "-d", "--name", "cc", "busybox", "sleep", "600")

    def archive(*entries: tuple[str, str]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, link in entries:
                entry = tarfile.TarInfo(name)
                if link:
                    entry.type, entry.linkname = tarfile.SYMTYPE, link
                    tar.addfile(entry)
                else:
                    entry.size = 2
                    tar.addfile(entry, io.BytesIO(b"hi"))
        return buffer.getvalue()

    up = "../" * 12
    for entries in (
        [(f"a/{up}{str(sentinel)[1:]}/new", "")],
        [(f"{sentinel}/new", "")],
        [("l", f"{up}{str(sentinel)[1:]}"), ("l/new", "")],
        [("l", str(sentinel)), ("l/new", "")],
        [("l", "/proc/1/root"), (f"l{sentinel}/new", "")],
        [("l", "/proc/self/root"), (f"l{sentinel}/new", "")],
    ):
        engine.docker("cp", "-", "cc:/tmp", stdin=archive(*entries), check=False)
        assert os.listdir(sentinel) == ["secret"]
    for target in (f"cc:/tmp/{up}{str(sentinel)[1:]}", f"cc:/proc/1/root{sentinel}"):
        engine.docker("cp", "-", target, stdin=archive(("new", "")), check=False)


def test_archives_are_inflated_here(engine: EngineProcess, sentinel: Path, tmp_path: Path) -> None:
    """CVE-2026-41567: the container has its own xz, gzip and unpigz; none of them runs."""
    import bz2
    import gzip
    import lzma

    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("xz", "gzip", "unpigz", "pigz", "bzip2", "zstd", "unxz", "gunzip"):
        (tools / name).write_text("#!/bin/sh\ntouch /trojan\ncat\n")
        (tools / name).chmod(0o755)
    engine.docker("run", "-d", "--name", "cc", "busybox", "sleep", "600")
    for place in ("/bin/.", "/usr/bin/.", "/usr/sbin/."):
        engine.docker("exec", "cc", "mkdir", "-p", place)
        engine.docker("cp", f"{tools}/.", f"cc:{place}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("inflated")
        tar.addfile(entry)
    squeezes: list[Callable[[bytes], bytes]] = [gzip.compress, lzma.compress, bz2.compress, _zstd]
    for squeeze in squeezes:
        engine.docker("exec", "cc", "rm", "-f", "/tmp/inflated")
        engine.docker("cp", "-", "cc:/tmp", stdin=squeeze(buffer.getvalue()))
        assert engine.docker("exec", "cc", "ls", "/tmp").out == "inflated\n"
    assert engine.docker("exec", "cc", "ls", "/trojan", check=False).code == 1


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.compress(data)


def test_a_stopped_containers_nested_volumes_are_seen_whole(engine: EngineProcess, here: Path) -> None:
    """A volume below another one is reached, whichever was named first; the docker command names them in any order."""
    mounts = ("--mount", "type=volume,src=inner,dst=/s/deep", "--mount", "type=volume,src=outer,dst=/s")
    engine.docker("create", "--name", "cc", *mounts, "busybox", "true")
    engine.docker("cp", f"{here}/src/plain", "cc:/s/deep/f")
    assert engine.docker("run", "--rm", "-v", "inner:/i", "busybox", "cat", "/i/f").out == "plain\n"


def test_a_hostile_engine_writes_nowhere_else(tmp_path: Path) -> None:
    """CVE-2026-17106: whatever archive comes, our command writes only below the destination."""
    from tests.volumes.hostile_engine import HostileEngine

    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    inside = tmp_path / "inside"
    up = "../" * 12 + str(outside)[1:]
    attacks: list[list[tuple[str, str, str]]] = [
        [("file", f"x/{up}/new", "")],
        [("file", f"{outside}/new", "")],
        [("link", "x", str(outside)), ("file", "x/new", "")],
        [("link", "x/l", str(outside)), ("file", "x/l/new", "")],
        [("link", "x/a", ".."), ("link", "x/a/b", ".."), ("file", "x/a/b/outside/new", "")],
        [("hard", "x/h", f"{outside}/kept"), ("file", "x/h", "")],
        [("hard", "x/h", up + "/kept")],
        [("link", "x/k", f"{outside}/kept"), ("file", "x/k", "")],
        [("link", "x/d", str(outside)), ("dir", "x/d", ""), ("file", "x/d/new", "")],
    ]
    for number, entries in enumerate(attacks):
        for target in (f"t{number}", "."):
            work = inside / f"{number}{target}"
            work.mkdir(parents=True)
            with HostileEngine(entries) as engine:
                env = {**os.environ, "WHERRY_HOST": engine.host}
                subprocess.run(
                    [str(BIN / "wherry"), "cp", "cc:/x", target],
                    cwd=work,
                    env=env,
                    capture_output=True,
                    check=False,
                    timeout=20,
                )
            assert os.listdir(outside) == ["kept"] and (outside / "kept").read_text() == "kept", entries


def test_a_client_that_leaves_leaves_no_worker(box: EngineProcess) -> None:
    """A copy whose reader goes away ends, and the container goes on."""
    box.docker("exec", "cc", "sh", "-c", "dd if=/dev/zero of=/d/big bs=1M count=64 2>/dev/null")
    with subprocess.Popen(["docker", "cp", "cc:/d/big", "-"], env=box.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1000)
        process.kill()
    box.docker("rm", "-f", "cc")
    box.assert_nothing_runs()
