"""Volumes as people use them: made, mounted in every form, shared, filled, taken over, kept over every death."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import EngineProcess, children, until
from tests.races import race, swapping
from tests.volumes.conftest import Shape

pytestmark = pytest.mark.root

Make = Callable[..., str]
CONTENT: Shape = {"data": None, "data/f": b"hi\n", "data/sub": None, "data/sub/g": b"sub\n", "data/l": ("link", "f")}


def _sh(engine: EngineProcess, script: str, *flags: str, image: str = "busybox", code: int = 0) -> str:
    return engine.docker("run", "--rm", *flags, image, "sh", "-c", script, code=code).out


def _mounts(engine: EngineProcess, name: str) -> dict[str, dict[str, Any]]:
    told = json.loads(engine.docker("inspect", "-f", "{{json .Mounts}}", name).out)
    return {mount["Destination"]: mount for mount in told}


def _volumes(engine: EngineProcess) -> list[str]:
    return engine.docker("volume", "ls", "-q").out.split()


def test_data_outlives_its_containers(engine: EngineProcess) -> None:
    """What one container writes into a named volume the next one reads, also after the engine was killed."""
    _sh(engine, "echo kept > /v/file", "-v", "notes:/v")
    assert _sh(engine, "cat /v/file; echo x > /v/no", "-v", "notes:/v:ro", code=1) == "kept\n"
    engine.kill()
    engine.start()
    assert _sh(engine, "cat /w/file", "-v", "notes:/w") == "kept\n"
    path = Path(engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "notes").out.strip())
    assert (path / "file").read_text() == "kept\n"


def test_a_new_volume_is_filled_from_the_image(engine: EngineProcess, image: Make) -> None:
    """Content, owners and modes; once; not with `nocopy`; never over what is there already."""
    name = image(CONTENT, owner=7)
    listing = "cd /data && find . | sort; stat -c '%u %g %a' . f"
    expected = ".\n./f\n./l\n./sub\n./sub/g\n7 7 750\n7 7 640\n"
    assert _sh(engine, listing, "-v", "full:/data", image=name) == expected
    _sh(engine, "rm /data/f; touch /data/mine", "-v", "full:/data", image=name)
    assert "./f\n" not in _sh(engine, "cd /data; find .", "-v", "full:/data", image=name)
    assert _sh(engine, "ls /data", "-v", "bare:/data:nocopy", image=name) == ""
    # an empty volume that is there is filled too, also while another container has it mounted
    engine.docker("volume", "create", "later")
    engine.docker("run", "-d", "--name", "watcher", "-v", "later:/elsewhere", name, "sleep", "600")
    assert _sh(engine, listing, "-v", "later:/data", image=name) == expected
    assert engine.docker("exec", "watcher", "ls", "/elsewhere").out == "f\nl\nsub\n"


def test_a_container_that_is_only_created_has_its_data(engine: EngineProcess, image: Make) -> None:
    """The data-volume container that is never started: its volumes are filled, and others take them over."""
    name = image(CONTENT)
    engine.docker("create", "--name", "dbstore", "-v", "/data", name, "true")
    assert _sh(engine, "cat /data/f", "--volumes-from", "dbstore") == "hi\n"
    assert _sh(engine, "touch /data/no", "--volumes-from", "dbstore:ro", code=1) == ""


def test_image_volumes_never_copy_from_the_host(engine: EngineProcess, image: Make) -> None:
    """CVE-2022-23648: a VOLUME with `..`, or that is a link to the host, is resolved inside the image."""
    name = image(
        {
            "etc": None,
            "etc/mine": b"image\n",
            "link": ("link", "/etc"),
            "up": ("link", "../../../../../../etc"),
            "v": None,
        },
        "VOLUME /../../../../etc",
        "VOLUME /link",
        "VOLUME /up",
    )
    engine.docker("create", "--name", "cve", name, "true")
    for mount in _mounts(engine, "cve").values():
        assert os.listdir(mount["Source"]) == ["mine"], mount
    assert Path("/etc/passwd").exists()


def test_the_place_of_a_mount_is_raced_in_a_shared_volume(engine: EngineProcess, tmp_path: Path) -> None:
    """CVE-2021-30465, CVE-2024-45310: a container turns a directory of a shared volume into links to the host, while
    others are started that have a volume, a bind and a tmpfs mounted below it. No file and no mount is ever outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    engine.docker("run", "--rm", "-v", "shared:/s", "busybox", "ln", "-s", f"/../../../../../../..{outside}", "/s/evil")
    shared = Path(engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "shared").out.strip())
    (shared / "place").mkdir()
    flags = ("-v", "shared:/s", "-v", "data:/s/place/v/deep", "-v", f"{tmp_path}:/s/place/b", "--tmpfs", "/s/place/t")
    command = ("run", "--rm", *flags, "busybox", "cut", "-d", " ", "-f", "2", "/proc/mounts")
    there = engine.docker(*command).out.split()
    assert {"/s/place/v/deep", "/s/place/b", "/s/place/t"} <= set(
        there
    )  # without a racer they are where they should be

    def attempt() -> Iterator[str]:
        done = engine.docker(*command, check=False)
        assert os.listdir(outside) == []
        for mounted in done.out.split():
            if mounted.startswith(("/s/place/", "/s/evil/")):
                yield "directory"
            elif str(outside) in mounted:
                yield "link"

    with swapping(shared / "place", shared / "evil"):
        race(attempt, ("directory", "link"), rounds=int(os.environ.get("WHERRY_RACE_ROUNDS", "12")))
    assert not engine.mounts()
    assert str(outside) not in Path("/proc/self/mountinfo").read_text()


def test_lines_4_and_5_hostile_images_with_volumes_in_play(engine: EngineProcess, image: Make, tmp_path: Path) -> None:
    """CVE-2025-31133, CVE-2025-52565: an image whose /dev, console and null lead to the host, and a volume on the way:
    it starts confined, or it does not start; the host's files stay."""
    sentinel = tmp_path / "sentinel"
    sentinel.write_text("untouched")
    core_pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    up = "../../../../../../.."
    name = image(
        {
            "dev": None,
            "dev/null": ("link", "/proc/sys/kernel/core_pattern"),
            "dev/console": ("link", f"{up}{sentinel}"),
            "dev/pts": ("link", f"{up}{tmp_path}"),
            "v": ("link", "/proc/sys/kernel"),
            "w": ("link", f"{up}{tmp_path}"),
        }
    )
    script = "echo x > /dev/null; echo y > /dev/console"
    for flags in (("-t",), ("-v", "vol:/v"), ("-v", "vol:/w"), ("-v", "vol:/dev"), ("-t", "-v", "vol:/dev")):
        engine.docker("run", "--rm", *flags, name, "sh", "-c", script, check=False)
        assert sentinel.read_text() == "untouched" and os.listdir(tmp_path) == ["sentinel"], flags
        assert Path("/proc/sys/kernel/core_pattern").read_text() == core_pattern, flags


def test_anonymous_volumes_go_with_their_container(engine: EngineProcess, image: Make) -> None:
    """`--rm` and `rm -v` take them, `rm` leaves them to `prune`; named ones stay; so do those that others use."""
    name = image(CONTENT, "VOLUME /data")
    _sh(engine, "true", "-v", "/anon", "-v", "named:/n", image=name)
    assert _volumes(engine) == ["named"]
    engine.docker("create", "--name", "one", "-v", "named:/n", name, "true")
    engine.docker("create", "--name", "two", "--volumes-from", "one", "busybox", "true")
    anonymous = _mounts(engine, "one")["/data"]["Name"]
    engine.docker("rm", "-v", "one")
    assert sorted(_volumes(engine)) == sorted([anonymous, "named"])
    engine.docker("rm", "-v", "two")
    assert _volumes(engine) == ["named"]
    engine.docker("create", "--name", "three", name, "true")
    engine.docker("rm", "three")
    assert len(_volumes(engine)) == 2
    assert "Deleted Volumes:" in engine.docker("volume", "prune", "-f").out
    assert _volumes(engine) == ["named"]


def test_a_volume_in_use_is_not_removed(engine: EngineProcess) -> None:
    """In Docker's words, by whichever door; with force too; a volume that nobody has goes."""
    engine.docker("create", "--name", "user", "-v", "used:/v", "busybox", "true")
    id_ = engine.docker("inspect", "-f", "{{.Id}}", "user").out.strip()
    words = f"Error response from daemon: remove used: volume is in use - [{id_}]\n"
    assert engine.docker("volume", "rm", "used", code=1).err == words
    assert engine.wherry("volume", "rm", "-f", "used", code=1).err == words
    engine.docker("volume", "prune", "-af")
    assert _volumes(engine) == ["used"]
    assert engine.docker("volume", "ls", "-qf", "dangling=false").out == "used\n"
    assert engine.docker("ps", "-aqf", "volume=used", "--no-trunc").out.strip() == id_
    engine.docker("rm", "user")
    assert engine.docker("volume", "ls", "-qf", "dangling=true").out == "used\n"
    engine.wherry("volume", "rm", "used")
    assert engine.wherry("volume", "rm", "used", code=1).err == "Error response from daemon: get used: no such volume\n"


def test_subpaths(engine: EngineProcess) -> None:
    """A subpath mounts what is below; a link in the volume never leads out of it."""
    _sh(engine, "mkdir -p /v/a/b; echo deep > /v/a/b/f; ln -s /etc /v/out; ln -s ../../.. /v/a/up", "-v", "tree:/v")

    def run(subpath: str, code: int = 0) -> str:
        mount = f"type=volume,src=tree,dst=/s,volume-subpath={subpath}"
        done = engine.docker("run", "--rm", "--mount", mount, "busybox", "ls", "/s", code=code)
        return done.out + done.err

    assert run("a/b") == "f\n"
    assert run("a/b/f") == "/s\n"
    assert "no such file or directory" in run("nope", 127)
    for name in ("out", "a/up", "out/passwd"):
        assert "cannot access path" in run(name, 125), name
    assert "subpath must be a relative path within the volume" in run("../x", 125)


def test_a_volume_that_is_a_directory_of_the_host(engine: EngineProcess, tmp_path: Path, image: Make) -> None:
    """`-o type=none -o o=bind -o device=…`: filled like others, kept when removed, refused by name when not there."""
    name = image(CONTENT)
    place = tmp_path / "place"
    options = ("-o", "type=none", "-o", "o=bind", "-o", f"device={place}")
    engine.docker("volume", "create", *options, "host")
    failed = engine.docker("run", "--rm", "-v", "host:/data", name, "true", code=127)
    assert "failed to mount local volume" in failed.err and "no such file or directory" in failed.err
    place.mkdir()
    assert _sh(engine, "cat /data/f", "-v", "host:/data", image=name) == "hi\n"
    assert (place / "sub/g").read_text() == "sub\n"
    engine.docker("volume", "rm", "host")
    assert (place / "f").exists()
    engine.docker("volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", f"device={place}", "host")
    assert _sh(engine, "touch /d/no", "-v", "host:/d", code=1) == ""


def test_a_volume_that_is_mounted_lives_as_long_as_its_users(engine: EngineProcess) -> None:
    """tmpfs: one for all users at a time, empty when the last one ends, found again after the engine was killed."""
    engine.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=0750", "mem")
    engine.docker("run", "-d", "--name", "first", "-v", "mem:/m", "busybox", "sleep", "600")
    assert "size=1024k" in engine.docker("exec", "first", "grep", " /m ", "/proc/mounts").out
    engine.docker("exec", "first", "sh", "-c", "mkdir /m/s; echo shared > /m/s/x")
    assert _sh(engine, "cat /n/s/x", "-v", "mem:/n") == "shared\n"
    engine.kill()
    engine.start()
    engine.docker("run", "-d", "--name", "second", "-v", "mem:/n", "busybox", "sleep", "600")
    engine.docker("rm", "-f", "first")
    assert engine.docker("exec", "second", "cat", "/n/s/x").out == "shared\n"
    below = "type=volume,src=mem,dst=/s,volume-subpath=s"
    assert engine.docker("run", "--rm", "--mount", below, "busybox", "cat", "/s/x").out == "shared\n"
    assert not engine.mounts()
    engine.docker("rm", "-f", "second")
    assert _sh(engine, "ls /n", "-v", "mem:/n") == ""


def test_many_start_at_once_on_one_mounted_volume(engine: EngineProcess) -> None:
    """Of users that start together each finds the same file system."""
    engine.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem")
    script = 'for i in 1 2 3 4; do docker run -d -v mem:/m busybox sh -c "touch /m/$i; exec sleep 600" & done; wait'
    ids = engine.run("sh", "-c", script).out.split()
    until(
        lambda: engine.docker("exec", ids[0], "ls", "/m").out.split() == ["1", "2", "3", "4"],
        "each container's file is in the one volume",
    )


def test_what_cannot_be_mounted_says_why(engine: EngineProcess) -> None:
    """A file system that the kernel does not have; a password is not repeated."""
    options = ("-o", "type=nope", "-o", "device=x", "-o", "o=password=secret,y")
    engine.docker("volume", "create", *options, "bad")
    failed = engine.docker("run", "--rm", "-v", "bad:/v", "busybox", "true", code=125).err
    assert "failed to mount local volume: mount x:" in failed and "no such device" in failed
    assert "secret" not in failed


def test_an_image_as_a_mount(engine: EngineProcess, image: Make) -> None:
    """`--mount type=image` shows another image's files, which nothing can change; its layers are kept meanwhile."""
    name = image({**CONTENT, "up": ("link", "../../../..")})
    mount = ("--mount", f"type=image,src={name},dst=/i")
    assert engine.wherry("run", "--rm", *mount, "busybox", "cat", "/i/data/f").out == "hi\n"
    engine.wherry("create", "--name", "viewer", *mount, "busybox", "cat", "/i/data/f")
    refused = engine.wherry("run", "--rm", *mount, "busybox", "touch", "/i/no", code=1).err
    assert "Read-only file system" in refused
    for subpath, expected in (("data/sub", "g\n"), ("data/f", "/i\n"), ("data/l", "/i\n"), ("up/data", "f\nl\nsub\n")):
        part = ("--mount", f"type=image,src={name},dst=/i,image-subpath={subpath}")
        assert engine.wherry("run", "--rm", *part, "busybox", "ls", "/i").out == expected
    for subpath, words in (("nope", "no such file or directory"), ("../x", "relative path within the image")):
        part = ("--mount", f"type=image,src={name},dst=/i,image-subpath={subpath}")
        assert words in engine.wherry("run", "--rm", *part, "busybox", "ls", "/i", check=False).err
    told = _mounts(engine, "viewer")["/i"]
    assert (told["Type"], told["Source"], told["RW"]) == ("image", name, False)


def test_read_only_binds_are_read_only_below_too(engine: EngineProcess, tmp_path: Path) -> None:
    """What is mounted below a read-only bind is read-only as well, unless it is said otherwise."""
    (tmp_path / "sub").mkdir()
    engine.run("mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "sub"))
    try:
        assert _sh(engine, "touch /b/sub/no", "-v", f"{tmp_path}:/b:ro", code=1) == ""
        mount = f"type=bind,src={tmp_path},dst=/b,readonly,bind-recursive=writable"
        assert engine.docker("run", "--rm", "--mount", mount, "busybox", "touch", "/b/sub/yes").code == 0
    finally:
        engine.run("umount", str(tmp_path / "sub"))


def test_events_of_a_volume(engine: EngineProcess) -> None:
    """create, mount, unmount, destroy, with what Docker says of them."""
    since = f"{time.time():.6f}"
    engine.docker("volume", "create", "told")
    _sh(engine, "true", "-v", "told:/v:ro")
    words = ("--filter", "type=volume", "--format", "{{json .}}")

    def told() -> list[dict[str, Any]]:
        window = ("--since", since, "--until", f"{time.time():.6f}")
        return [json.loads(line) for line in engine.docker("events", *window, *words).out.splitlines()]

    until(lambda: "unmount" in [event["Action"] for event in told()], "the end is told")
    engine.docker("volume", "rm", "told")
    until(lambda: len(told()) == 4, "everything is told")
    events = told()
    assert [event["Action"] for event in events] == ["create", "mount", "unmount", "destroy"]
    attributes = events[1]["Actor"]["Attributes"]
    assert {key: attributes[key] for key in ("destination", "driver", "propagation", "read/write")} == {
        "destination": "/v",
        "driver": "local",
        "propagation": "",
        "read/write": "false",
    }


def test_a_volume_that_was_lost_is_missed(engine: EngineProcess) -> None:
    """A named volume that somebody deleted by hand fails the start; nothing is put in its place silently."""
    engine.docker("create", "--name", "loser", "-v", "lost:/v", "busybox", "true")
    path = Path(engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "lost").out.strip())
    engine.kill()
    path.rmdir()
    (path.parent / "volume.json").unlink()
    path.parent.rmdir()
    engine.start()
    assert "no such volume" in engine.docker("start", "loser", code=1).err


@pytest.mark.parametrize("victim", ["wherryd", "spawner"])
def test_killed_while_volumes_are_made(own_engine: EngineProcess, victim: str) -> None:
    """A storm of creates, killed again and again: each container has its volumes, none is left without one."""
    engine = own_engine
    made: set[str] = set()
    for round_ in range(4):
        one = f"docker create --name c{round_}x$i -v /anon -v named{round_}x$i:/n busybox true"
        kill = f"sleep 0.{2 + round_}; kill -9 {_pid(engine, victim)}; wait"
        done = engine.run("sh", "-c", f"(for i in $(seq 12); do {one}; done) 2>&1 & {kill}", code=None)
        made.update(line for line in done.out.split("\n") if len(line) == 64)
        if victim == "wherryd":
            assert engine.process is not None
            engine.process.wait(10)
            engine.start()
    names = engine.docker("ps", "-aq", "--no-trunc").out.split()
    assert made <= set(names)
    used: set[str] = set()
    for name in names:
        used.update(mount["Name"] for mount in _mounts(engine, name).values())
    assert len(used) == 2 * len(names)
    assert set(_volumes(engine)) == used
    assert [entry for entry in os.listdir(engine.roots.volumes) if entry.startswith((".new", ".for"))] == []
    if names:
        engine.docker("start", "-a", names[0])


def _pid(engine: EngineProcess, victim: str) -> int:
    if victim == "wherryd":
        return engine.pid
    until(lambda: children(engine.pid), "the spawner was replaced")
    return engine.spawner


def test_removals_that_are_killed(own_engine: EngineProcess) -> None:
    """`--rm` that ends while the engine is away: the next one takes container and anonymous volume together."""
    engine = own_engine
    engine.docker("run", "-d", "--rm", "--name", "gone", "-v", "/anon", "busybox", "sleep", "600")
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "gone").out)
    engine.kill()
    os.kill(pid, signal.SIGKILL)
    engine.start()
    until(lambda: not engine.docker("ps", "-aq").out, "the container is gone")
    until(lambda: not _volumes(engine), "its volume is gone")
    until(lambda: os.listdir(engine.roots.volumes) == [], "nothing of it is on the disk")
