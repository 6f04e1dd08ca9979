"""An upper directory becomes a layer: the blob unpacks to the snapshot, and nothing is left of what fails."""

import gzip
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import image_archives as make
from tests.images.conftest import Store, chunks
from wherry.errors import InvalidArgument, KernelError
from wherry.images.seal import Sealed, claim, seal
from wherry.oci import digest as digests

pytestmark = pytest.mark.root


@pytest.fixture
def upper(tmp_path: Path) -> Iterator[int]:
    """An upper directory as a container left it, open."""
    root = tmp_path / "upper"
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    (root / "bin").mkdir()
    (root / "bin/new").write_bytes(b"#!" + bytes(100_000))
    os.mknod(root / "bin/sh", stat.S_IFCHR, 0)
    (root / "opaque").mkdir()
    os.setxattr(root / "opaque", "trusted.overlay.opaque", b"y")
    for path in ("dev", "proc", "sys", "etc"):
        (root / path).mkdir()
    for name in ("hosts", "hostname", "resolv.conf"):
        (root / "etc" / name).touch(0o755)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def make_layer(store: Store, upper: int, **options: object) -> Sealed | None:
    """Seal on top of an image, and end the claims without an image that needs the layer."""

    async def run() -> Sealed | None:
        stores = store.images._stores
        base = store.images.resolve("base")
        async with claim(stores) as claims:
            await claims.image(base.record)
            return await seal(stores, claims, upper, base.chain_ids, **options)  # type: ignore[arg-type]

    return store.run(run())


@pytest.fixture
def based(store: Store) -> Store:
    """A store with a base image."""
    root = make.tar({"bin/": b"", "bin/sh": b"#!shell" * 100, "etc/": b"", "etc/passwd": b"root"})
    store.run(store.images.import_(chunks(root), "base"))
    return store


def test_the_snapshot_is_the_blob_unpacked(based: Store, upper: int) -> None:
    """Whiteouts and opaque directories are in both; the runtime's places to mount on are in neither."""
    made = make_layer(based, upper)
    assert made is not None
    with open(based.blobs.path(digests.parse(made.layer.blob)), "rb") as file:
        plain = gzip.decompress(file.read())
    assert str(digests.of(plain)) == made.layer.diff_id
    assert b"bin/.wh.sh" in plain
    assert b"opaque/.wh..wh..opq" in plain
    tree = Path(based.overlay.path(made.chain_id))
    assert sorted(os.listdir(tree)) == ["bin", "opaque"]
    assert os.stat(tree / "bin/sh").st_rdev == 0
    assert os.getxattr(tree / "opaque", "trusted.overlay.opaque") == b"y"
    assert made.layer.unpacked == (tree / "bin/new").stat().st_size
    assert based.overlay.meta(made.chain_id)["diff_id"] == made.layer.diff_id
    assert os.listdir(based.roots.ingest) == []


def test_the_same_tree_gives_the_same_layer(based: Store, upper: int) -> None:
    """Blob and diff id are reproducible, whoever compresses it and when."""
    first, second = make_layer(based, upper), make_layer(based, upper)
    assert first is not None
    assert second is not None
    assert first.layer == second.layer


def test_what_the_container_put_there_is_kept(based: Store, upper: int) -> None:
    """A file of that name with something in it is the container's; `mounted=False` keeps all."""
    os.close(os.open("etc/mine", os.O_CREAT, dir_fd=upper))
    os.close(os.open("dev/null2", os.O_CREAT, dir_fd=upper))
    made = make_layer(based, upper)
    assert made is not None
    tree = Path(based.overlay.path(made.chain_id))
    assert os.listdir(tree / "etc") == ["mine"]
    assert os.listdir(tree / "dev") == ["null2"]
    assert not (tree / "proc").exists()
    whole = make_layer(based, upper, mounted=False)
    assert whole is not None
    assert sorted(os.listdir(based.overlay.path(whole.chain_id))) == ["bin", "dev", "etc", "opaque", "proc", "sys"]


def test_no_change_is_no_layer(based: Store, tmp_path: Path) -> None:
    """An upper directory in which only places to mount on were made gives no layer, and leaves nothing."""
    for path in ("u/dev", "u/proc", "u/etc"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "u").chmod(0o755)
    (tmp_path / "u/etc/hosts").touch()
    fd = os.open(tmp_path / "u", os.O_RDONLY)
    try:
        assert make_layer(based, fd) is None
    finally:
        os.close(fd)
    based.check()


def test_the_mode_of_the_root_is_kept(based: Store, upper: int) -> None:
    """`chmod 1777 /` is a change like others."""
    os.fchmod(upper, 0o1777)
    made = make_layer(based, upper)
    assert made is not None
    assert stat.S_IMODE(os.stat(based.overlay.path(made.chain_id)).st_mode) == 0o1777


def test_newest_caps_times(based: Store, upper: int) -> None:
    """No time in the layer is later than `newest`."""
    made = make_layer(based, upper, newest=1_000_000_000 * 10**9)
    assert made is not None
    assert os.stat(f"{based.overlay.path(made.chain_id)}/bin/new").st_mtime_ns == 1_000_000_000 * 10**9


def test_a_failure_leaves_nothing(based: Store, upper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no layer can have, a worker that dies, a disk that is full: the store is as before."""
    stores = based.images._stores

    async def full(*_: object) -> dict[str, object]:
        raise KernelError("unpack", 28)

    with monkeypatch.context() as patch:
        patch.setattr(stores, "unpack", full)
        with pytest.raises(KernelError, match="no space left"):
            make_layer(based, upper)
    based.check()
    with monkeypatch.context() as patch:
        patch.setattr(stores, "write_layer", full)
        with pytest.raises(KernelError, match="no space left"):
            make_layer(based, upper)
    based.check()
    os.close(os.open("bin/.wh.x", os.O_CREAT, dir_fd=upper))
    with pytest.raises(InvalidArgument, match=r"\.wh\."):
        make_layer(based, upper)
    based.check()


def test_an_error_later_takes_the_layer_away(based: Store, upper: int) -> None:
    """What was sealed for an image that is then not recorded goes."""

    async def run() -> None:
        stores = based.images._stores
        base = based.images.resolve("base")
        async with claim(stores) as claims:
            await claims.image(base.record)
            assert await seal(stores, claims, upper, base.chain_ids)
            raise RuntimeError("no record")

    with pytest.raises(RuntimeError):
        based.run(run())
    based.check()


def test_collection_leaves_claims_alone(based: Store, upper: int) -> None:
    """Collection that runs between the layer and its record takes nothing."""

    async def run() -> None:
        stores = based.images._stores
        base = based.images.resolve("base")
        async with claim(stores) as claims:
            await claims.image(base.record)
            made = await seal(stores, claims, upper, base.chain_ids)
            assert made is not None
            assert await based.images.collect() == 0
            assert stores.overlay.exists(made.chain_id)

    based.run(run())
    assert based.run(based.images.collect()) == 2
    based.check()
