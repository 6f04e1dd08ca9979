"""Layers on disk: staged, committed, mounted by a real kernel, removed."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wherry.errors import InvalidArgument, NewerSchema, StoreCorrupt
from wherry.oci.mount import Mount
from wherry.paths import Roots
from wherry.snapshots.overlay import Overlay
from wherry.snapshots.unpack import apply_layer

from .layer_archives import DIRECTORY, archive, member

pytestmark = pytest.mark.root


def chain(letter: str) -> str:
    """A chain id of one repeated digit."""
    return f"sha256:{letter * 64}"


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    """An empty store."""
    return Overlay(Roots(str(tmp_path / "data"), str(tmp_path / "run")))


def add(overlay: Overlay, chain_id: str, *members: bytes) -> str:
    """Unpack an archive of `members` as the layer `chain_id`; returns its tree."""
    staging = overlay.stage()
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, archive(*members))
        os._exit(0)
    os.close(write)
    target = os.open(staging, os.O_RDONLY)
    try:
        applied = apply_layer(read, target)
    finally:
        os.close(target)
        os.close(read)
        os.wait()
    return overlay.commit(staging, chain_id, applied.size, diff_id=applied.diff_id, parent=None)


def mounted(tmp_path: Path, mount: Mount, script: str) -> str:
    """Make the mount at `root` in a namespace of its own and run a shell script there."""
    (tmp_path / "root").mkdir(exist_ok=True)
    options = ",".join(mount.options)
    command = f'mount -t {mount.type} {mount.source} -o "$1" root; cd root; {script}'
    return subprocess.run(
        ["unshare", "-m", "sh", "-ec", command, "sh", options],
        cwd=tmp_path,
        # newer versions of mount(8) prefer fsconfig(2), which takes no option of more than 255 characters
        env={**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_layer_is_visible_when_it_is_committed(overlay: Overlay, tmp_path: Path) -> None:
    """A staged layer is not there; a committed one is, with its size, and can be entered by its owner only."""
    staging = overlay.stage()
    assert not overlay.exists(chain("a"))
    assert list(overlay.walk()) == []
    tree = overlay.commit(staging, chain("a"), 17, diff_id=chain("d"), parent=chain("b"))
    assert tree == overlay.path(chain("a")) == f"{tmp_path}/data/snapshots/{'a' * 64}/fs"
    assert overlay.exists(chain("a"))
    assert overlay.size(chain("a")) == 17
    assert overlay.meta(chain("a"))["parent"] == chain("b")
    assert list(overlay.walk()) == [chain("a")]
    overlay.check(chain("a"))
    assert os.listdir(tmp_path / "data/ingest") == []


def test_committing_twice_keeps_the_first(overlay: Overlay, tmp_path: Path) -> None:
    """Two workers may unpack the same layer: the second one's copy is dropped."""
    first = add(overlay, chain("a"), member("first", data=b"x"))
    assert add(overlay, chain("a"), member("second", data=b"xy")) == first
    assert os.listdir(first) == ["first"]
    assert overlay.size(chain("a")) == 1
    assert os.listdir(tmp_path / "data/ingest") == []


def test_cve_2021_41091_others_cannot_enter(overlay: Overlay, tmp_path: Path) -> None:
    """Another user cannot reach a setuid program in a layer, nor see that it is there, staged or committed."""
    staging = overlay.stage()
    (Path(staging) / "su").write_bytes(b"")
    (Path(staging) / "su").chmod(0o4755)
    tree = add(overlay, chain("a"), member("./", DIRECTORY, mode=0o755), member("su", data=b"x", mode=0o4755))
    assert stat.S_IMODE(os.stat(tree).st_mode) == 0o755
    for path in (f"{tree}/su", f"{staging}/su"):
        pid = os.fork()
        if pid == 0:
            os.setgid(65534)
            os.setuid(65534)
            try:
                os.stat(path)
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    overlay.abandon(staging)


def test_removal_is_a_rename_into_the_trash(overlay: Overlay, tmp_path: Path) -> None:
    """A removed layer is gone at once; its files go when the trash is emptied, and only layers go."""
    add(overlay, chain("a"), member("d/f", data=b"x"))
    where = overlay.remove(chain("a"))
    assert where is not None
    assert not overlay.exists(chain("a"))
    assert overlay.remove(chain("a")) is None
    (tmp_path / "data/trash/of-another").mkdir()
    overlay.empty_trash()
    assert os.listdir(tmp_path / "data/trash") == ["of-another"]


def test_what_a_crash_left_is_cleaned(overlay: Overlay, tmp_path: Path) -> None:
    """Staged layers of an earlier life go at start-up; what is another's in the same directory stays."""
    (Path(overlay.stage()) / "f").write_text("x")
    (tmp_path / "data/ingest/blob-of-another").write_text("x")
    overlay.clean()
    assert os.listdir(tmp_path / "data/ingest") == ["blob-of-another"]


@pytest.mark.parametrize(
    "name", ["sha256:../../x", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "a" * 64, "md5:" + "a" * 64]
)
def test_only_a_chain_id_is_a_path(overlay: Overlay, name: str) -> None:
    """A chain id is used as a path, so nothing else is taken for one."""
    staging = overlay.stage()
    for call in (overlay.path, overlay.exists, overlay.remove, overlay.size, lambda n: overlay.commit(staging, n, 1)):
        with pytest.raises(ValueError, match="not a chain id"):
            call(name)
    for wrong in ("/etc/fs", f"{staging}/..", os.path.dirname(os.path.dirname(staging)) + "/x/fs"):
        with pytest.raises(ValueError, match="not a staged layer"):
            overlay.abandon(wrong)
    overlay.abandon(staging)


def test_a_damaged_layer_says_so(overlay: Overlay) -> None:
    """A layer whose description is gone, of another layer or of a newer version is refused by name."""
    tree = add(overlay, chain("a"), member("f", data=b"x"))
    meta = Path(tree).parent / "meta.json"
    value = json.loads(meta.read_text())
    meta.write_text(json.dumps(value | {"v": 99}))
    with pytest.raises(NewerSchema):
        overlay.size(chain("a"))
    for text in (json.dumps(value | {"chain_id": chain("b")}), json.dumps(value | {"size": "big"}), "[]", "{", ""):
        meta.write_text(text)
        with pytest.raises(StoreCorrupt):
            overlay.size(chain("a"))
    with pytest.raises(StoreCorrupt, match="is not there"):
        overlay.mounts([chain("c")], "/upper", "/work")


def test_mounts_join_the_layers(overlay: Overlay, tmp_path: Path) -> None:
    """The kernel shows the layers as the image means them: newest first, whiteouts applied, writes in the upper one."""
    add(
        overlay,
        chain("a"),
        member("one", data=b"a"),
        member("gone", data=b"a"),
        member("d/old", data=b"a"),
        member("e/old", data=b"a"),
    )
    add(
        overlay,
        chain("b"),
        member("one", data=b"b"),
        member(".wh.gone"),
        member(".wh.d"),
        member("d/new", data=b"b"),
        member("e/.wh..wh..opq"),
    )
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()
    (mount,) = overlay.mounts([chain("a"), chain("b")], f"{tmp_path}/upper", f"{tmp_path}/work")
    assert mount.destination == "/"
    assert set(mount.options) >= {"index=off", "redirect_dir=off", "metacopy=off"}
    out = mounted(tmp_path, mount, "cat one; find . -type f | sort; touch written")
    assert out == "b./d/new\n./one\n"
    assert os.listdir(tmp_path / "upper") == ["written"]


def test_mounts_without_upper_or_layers(overlay: Overlay, tmp_path: Path) -> None:
    """A root may be read-only, have one layer, or none."""
    add(overlay, chain("a"), member("f", data=b"x"))
    for read_only in (overlay.mounts([chain("a")], None, None), overlay.mounts([], None, None)):
        out = mounted(tmp_path, read_only[0], "ls; touch no 2>/dev/null || echo refused")
        assert out.splitlines()[-1] == "refused"
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()
    (mount,) = overlay.mounts([], f"{tmp_path}/upper", f"{tmp_path}/work")
    assert mounted(tmp_path, mount, "touch yes; ls") == "yes\n"
    assert list(overlay.walk()) == [chain("a")]
    for path in ("/with:colon", "/with,comma", "/with\\backslash"):
        with pytest.raises(InvalidArgument):
            overlay.mounts([chain("a")], path, "/work")
    with pytest.raises(ValueError, match="work"):
        overlay.mounts([chain("a")], "/upper", None)


def test_kill_at_any_step_leaves_a_whole_layer_or_none(overlay: Overlay, tmp_path: Path) -> None:
    """Killed at each system call of a commit, the layer is there, whole, or not at all; start-up cleans the rest."""
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from wherry.paths import Roots\n"
        "from wherry.snapshots.overlay import Overlay\n"
        "steps, calls = int(sys.argv[3]), 0\n"
        "def count(event, args):\n"
        "    global calls\n"
        "    if event in ('open', 'os.rename', 'os.mkdir', 'os.listdir', 'os.remove', 'os.rmdir', 'os.chmod'):\n"
        "        calls += 1\n"
        "        if calls > steps: os.kill(os.getpid(), 9)\n"
        "overlay = Overlay(Roots(sys.argv[2], sys.argv[2]))\n"
        "sys.addaudithook(count)\n"
        "staging = overlay.stage()\n"
        "os.close(os.open(staging + '/file', os.O_CREAT | os.O_WRONLY))\n"
        "overlay.commit(staging, 'sha256:' + 'e' * 64, 5)\n"
    )
    for step in range(40):
        code = subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                script,
                str(Path(__file__).parents[2] / "src"),
                f"{tmp_path}/data",
                str(step),
            ],
            check=False,
        ).returncode
        if overlay.exists(chain("e")):
            overlay.check(chain("e"))
            assert os.listdir(overlay.path(chain("e"))) == ["file"]
        overlay.clean()
        assert os.listdir(tmp_path / "data/ingest") == []
        overlay.remove(chain("e"))
        if code == 0:
            break
    assert code == 0
    assert step > 5
    overlay.empty_trash()
    assert os.listdir(tmp_path / "data/trash") == []
