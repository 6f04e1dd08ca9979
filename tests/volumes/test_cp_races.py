"""`cp` while a container exchanges directories for links to the host: section B of the list of attacks."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, until
from tests.races import race, swapping

pytestmark = pytest.mark.root


def _rounds(default: int) -> int:
    return int(os.environ.get("WHERRY_RACE_ROUNDS", default))


def test_a_directory_becomes_a_link_while_it_is_copied(engine: EngineProcess, sentinel: Path, tmp_path: Path) -> None:
    """CVE-2018-15664: the racer turns a directory into a link to the host's; nothing of the host is read or written."""
    script = f"mkdir /r /r/dir; echo inside > /r/dir/secret; ln -s ../../../../../../..{sentinel} /r/evil; sleep 600"
    engine.docker("run", "-d", "--name", "cc", "busybox", "sh", "-c", script)
    here = Path("/proc", engine.docker("inspect", "-f", "{{.State.Pid}}", "cc").out.strip(), "root/r")
    until((here / "evil").is_symlink, "the link is there")
    (tmp_path / "secret").write_text("attack")
    out = tmp_path / "out"

    def attempt() -> Iterator[str]:
        for source in ("cc:/r/dir", "cc:/r/dir/secret"):
            done = engine.docker("cp", source, str(out), check=False)
            stolen = [path for path in (out, *out.rglob("*")) if path.is_file() and path.read_text() == "untouched"]
            assert not stolen or out.is_symlink()
            if source == "cc:/r/dir":
                # the docker command itself refuses a link that leads out of where it is put
                link = out.is_symlink() or "invalid symlink" in done.err
                yield "link copied" if link else "directory copied" if done.code == 0 else "refused"
            else:
                yield "not read through the link" if done.code else "read in the directory"
            if out.is_dir() and not out.is_symlink():
                shutil.rmtree(out)
            else:
                out.unlink(missing_ok=True)
        code = engine.docker("cp", str(tmp_path / "secret"), "cc:/r/dir/secret", check=False).code
        yield "not written through the link" if code else "written in the directory"
        assert (sentinel / "secret").read_text() == "untouched"

    assert set(attempt()) == {
        "directory copied",
        "read in the directory",
        "written in the directory",
    }  # without a racer
    outcomes = ("link copied", "directory copied", "not read through the link", "read in the directory")
    with swapping(here / "dir", here / "evil"):
        race(
            attempt,
            (*outcomes, "not written through the link", "written in the directory"),
            rounds=_rounds(12),
        )


def test_the_place_of_a_volume_is_raced(engine: EngineProcess, sentinel: Path, tmp_path: Path) -> None:
    """CVE-2026-41568: while a stopped container's view is made, another one turns the place of its volume, which is in
    a shared volume, into links to the host."""
    engine.docker(
        "run", "--rm", "-v", "shared:/s", "busybox", "ln", "-s", f"/../../../../../../..{sentinel}", "/s/evil"
    )
    shared = Path(engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "shared").out.strip())
    (shared / "place").mkdir()
    engine.docker("create", "--name", "cc", "-v", "shared:/s", "-v", "data:/s/place/deep", "busybox", "true")
    (tmp_path / "f").write_text("attack")
    out = tmp_path / "out"

    upper = Path(engine.roots.container(engine.docker("inspect", "-f", "{{.Id}}", "cc").out.strip()), "upper")
    behind = upper / str(sentinel)[1:] / "deep"  # what the link leads to in the container
    directory = os.open(shared / "place", os.O_RDONLY | os.O_DIRECTORY)

    def attempt() -> Iterator[str]:
        shutil.rmtree(behind, ignore_errors=True)
        shutil.rmtree("deep", ignore_errors=True, dir_fd=directory)
        engine.docker("cp", str(tmp_path / "f"), "cc:/s/place/deep/f", check=False)
        engine.docker("cp", "cc:/s/place", str(out), check=False)
        assert os.listdir(sentinel) == ["secret"]
        if behind.exists():
            yield "mounted behind the link"
        if "deep" in os.listdir(directory):
            yield "mounted in the directory"
        if out.is_dir() and not out.is_symlink():
            shutil.rmtree(out)
        else:
            out.unlink(missing_ok=True)
        assert not [path for path in tmp_path.rglob("secret") if path.is_file()]

    try:
        assert set(attempt()) == {"mounted in the directory"}  # without a racer
        with swapping(shared / "place", shared / "evil"):
            race(attempt, ("mounted behind the link", "mounted in the directory"), rounds=_rounds(8))
    finally:
        os.close(directory)
    assert not engine.mounts()


@pytest.mark.parametrize("way", ["cp", "export", "commit"])
def test_attack_a_file_becomes_a_device(engine: EngineProcess, tmp_path: Path, way: str) -> None:
    """A container exchanges a file for a device that its device rules keep it from opening; nor is it opened for it.

    No driver has the device's number: whoever opens it fails.
    """
    script = "mkdir /r; echo inside > /r/a; mknod /r/b c 240 7; cat /r/b 2> /r/said; sleep 600"
    engine.docker("run", "-d", "--name", "cc", "busybox", "sh", "-c", script)
    here = Path("/proc", engine.docker("inspect", "-f", "{{.State.Pid}}", "cc").out.strip(), "root/r")
    until((here / "said").exists, "the device is there")
    out = tmp_path / "out.tar"

    def attempt() -> Iterator[str]:
        if way == "commit":
            engine.docker("commit", "--pause=false", "cc", "taken")
            kind = engine.docker("run", "--rm", "--network", "none", "taken", "stat", "-c", "%F", "/r/a").out.strip()
            yield "file" if kind == "regular file" else "device"
            return
        engine.run("sh", "-c", f"{'docker cp cc:/r/. -' if way == 'cp' else 'docker export cc'} > {out}")
        with tarfile.open(out) as archive:
            for member in archive:
                if member.name.rpartition("/")[2] == "a":
                    yield "file" if member.isreg() else "device"

    assert list(attempt()) == ["file"]  # without a racer
    with swapping(here / "a", here / "b"):
        race(attempt, ("file", "device"), rounds=_rounds({"cp": 40, "export": 20, "commit": 12}[way]))
