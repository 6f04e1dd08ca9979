"""Volumes on disk: whole or not at all, whatever the engine was doing when it was killed."""

import os
from pathlib import Path

import pytest

from wherry.errors import InvalidArgument, NewerSchema, VolumeNotFound
from wherry.paths import Roots
from wherry.volumes import options
from wherry.volumes.store import ANONYMOUS, Volumes


def _store(tmp_path: Path, swept: "list[str] | None" = None) -> Volumes:
    store = Volumes(Roots(str(tmp_path / "data"), str(tmp_path / "run")), (swept if swept is not None else []).append)
    os.makedirs(tmp_path / "data", exist_ok=True)
    assert store.load(lambda _: set()) == []
    return store


def test_a_volume_outlives_the_engine(tmp_path: Path) -> None:
    """What was made is found again, with its labels and options; a second create finds the first."""
    store = _store(tmp_path)
    made, new = store.create("data", {"a": "b"}, {"type": "tmpfs", "device": "tmpfs"})
    assert new and store.create("data", {"c": "d"}) == (made, False)
    nameless, _ = store.create("")
    assert len(nameless.name) == 64 and nameless.labels == {ANONYMOUS: ""} and nameless.anonymous
    again = _store(tmp_path)
    assert again.get("data") == made
    assert {volume.name for volume in again} == {"data", nameless.name}
    assert oct(os.stat(tmp_path / "data/volumes/data").st_mode)[-3:] == "710"
    assert oct(os.stat(tmp_path / "data/volumes/data/_data").st_mode)[-3:] == "755"


def test_a_removed_volume_is_gone_at_once(tmp_path: Path) -> None:
    """Its name is free, and its content is somewhere where it will be deleted."""
    swept: list[str] = []
    store = _store(tmp_path, swept)
    store.create("data")
    Path(store.data("data"), "file").write_text("x")
    store.remove("data")
    with pytest.raises(VolumeNotFound, match="get data: no such volume"):
        store.get("data")
    assert [os.listdir(f"{path}/_data") for path in swept] == [["file"]]
    store.create("data")
    assert os.listdir(store.data("data")) == []
    # killed before it was deleted: the next engine is told of it
    assert _told(tmp_path) == swept


def _told(tmp_path: Path) -> list[str]:
    swept: list[str] = []
    _store(tmp_path, swept)
    return swept


def test_a_staged_volume_becomes_one_with_its_container(tmp_path: Path) -> None:
    """`container.json` decides: with it the next engine finishes the volume, without it nothing stays."""
    store = _store(tmp_path)
    for container in ("c1", "c2"):
        store.stage(container, store.described(f"data-{container}", None, None))
    assert list(store) == []
    again = Volumes(Roots(str(tmp_path / "data"), str(tmp_path / "run")), lambda _: None)
    again.load(lambda container: {"data-c1"} if container == "c1" else set())
    assert [volume.name for volume in again] == ["data-c1"]
    assert [name for name in os.listdir(tmp_path / "data/volumes") if name.startswith(".for")] == []


def test_two_containers_make_one_volume(tmp_path: Path) -> None:
    """Whoever is second takes what the first has made; its own is dropped."""
    store = _store(tmp_path)
    for container in ("c1", "c2"):
        staged = store.stage(container, store.described("data", None, None))
        Path(staged, "_data", container).touch()
    assert [volume.name for volume in store.adopt_staged("c1", ["data"])] == ["data"]
    assert store.adopt_staged("c2", ["data"]) == []
    assert os.listdir(store.data("data")) == ["c1"]


def test_what_a_crash_left_is_swept(tmp_path: Path) -> None:
    """A half-made volume, and a half-filled one, are no volumes and not full."""
    store = _store(tmp_path)
    store.create("data")
    os.makedirs(tmp_path / "data/volumes/.new-1/_data")
    os.makedirs(tmp_path / "data/volumes/data/_fill/half")
    swept: list[str] = []
    again = _store(tmp_path, swept)
    assert [volume.name for volume in again] == ["data"]
    assert len(swept) == 2
    assert not os.path.exists(tmp_path / "data/volumes/data/_fill")


def test_what_cannot_be_read_is_told_and_left(tmp_path: Path) -> None:
    """A zero-byte record keeps nobody from the other volumes; a newer version's is refused by name."""
    store = _store(tmp_path)
    store.create("good")
    store.create("empty")
    Path(store.path("empty"), "volume.json").write_bytes(b"")
    again = Volumes(Roots(str(tmp_path / "data"), str(tmp_path / "run")), lambda _: None)
    assert ["volume empty" in wrong for wrong in again.load(lambda _: set())] == [True]
    assert [volume.name for volume in again] == ["good"]
    assert os.path.isdir(store.data("empty"))
    Path(store.path("good"), "volume.json").write_text('{"name": "good", "created": "", "version": 99}')
    with pytest.raises(NewerSchema, match="volume good"):
        Volumes(Roots(str(tmp_path / "data"), str(tmp_path / "run")), lambda _: None).load(lambda _: set())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": "y"}, 'create v1: invalid option: "x"'),
        ({"type": "tmpfs"}, 'create v1: missing required option: "device"'),
        ({"device": "/a"}, 'create v1: missing required option: "type"'),
        ({"size": "1m"}, "create v1: quota size requested but no quota support"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, given: dict[str, str], words: str) -> None:
    """In dockerd's words, and nothing is made."""
    store = _store(tmp_path)
    with pytest.raises(InvalidArgument, match=words):
        store.create("v1", None, given)
    assert os.listdir(tmp_path / "data/volumes") == []


def test_which_volumes_need_a_mount() -> None:
    """A directory of the host does not; every file system does."""
    assert not options.needs_mount(None)
    assert not options.needs_mount({"type": "none", "device": "/a", "o": "bind,ro"})
    assert options.needs_mount({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    request = options.mount_request({"type": "nfs", "device": ":/a", "o": "addr=127.0.0.1,ro"})
    assert request == {"type": "nfs", "device": ":/a", "words": ["addr=127.0.0.1", "ro"]}
    with pytest.raises(InvalidArgument, match="error resolving"):
        options.mount_request({"type": "nfs", "device": ":/a", "o": "addr=no.such.host.invalid"})
