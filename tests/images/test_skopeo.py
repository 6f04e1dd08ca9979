"""skopeo copies from and to our archives and layouts, with the same image ids."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.images import image_archives as make
from tests.images import test_push_index as many
from tests.images.conftest import Store, chunks

pytestmark = [pytest.mark.root, pytest.mark.slow]

_LAYERS = [
    make.tar({"bin/": b"", "bin/sh": b"#!shell" * 1000, "etc/": b""}),
    make.tar({"etc/.wh.passwd": b"", "usr/": b"", "usr/x": b"y" * 5000}),
]


def skopeo(*arguments: str) -> str:
    """Run skopeo."""
    command = shutil.which("skopeo")
    assert command is not None, "needs skopeo (package skopeo)"
    done = subprocess.run(
        [command, "--insecure-policy", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def saved(store: Store, tmp_path: Path) -> tuple[Store, Path]:
    """An archive that we saved: two images, one of two layers, one of them with two names."""
    config = make.config(_LAYERS)
    store.load(
        make.tar(make.docker20([(config, [gzip.compress(layer) for layer in _LAYERS], ["app:1", "x.example/y:2"])]))
    )
    store.run(store.images.import_(chunks(_LAYERS[0]), "base"))
    path = tmp_path / "saved.tar"
    path.write_bytes(store.run(store.save("app:1", "x.example/y:2", "base")))
    return store, path


def config_digest(directory: Path) -> str:
    """The image id of a `dir:` copy, whose config must hash to it."""
    manifest = json.loads((directory / "manifest.json").read_text())
    digest: str = manifest["config"]["digest"]
    raw = (directory / digest.partition(":")[2]).read_bytes()
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest
    for layer in manifest["layers"]:
        data = (directory / layer["digest"].partition(":")[2]).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer["digest"]
    return digest


@pytest.mark.parametrize("name", ["app:1", "x.example/y:2", "base:latest"])
def test_from_our_docker_archive(saved: tuple[Store, Path], tmp_path: Path, name: str) -> None:
    """Every name of the archive is found by the older way in."""
    store, path = saved
    skopeo("copy", f"docker-archive:{path}:{name}", f"dir:{tmp_path}/out")
    assert config_digest(tmp_path / "out") == store.images.resolve(name).id


def test_from_our_oci_layout(saved: tuple[Store, Path], tmp_path: Path) -> None:
    """The same archive is an OCI layout: whole, and unpacked as a directory; digests stay."""
    store, path = saved
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "xf", path, "-C", tmp_path / "layout"], check=True)
    for place, tag, name in (
        (f"oci-archive:{path}", "1", "app:1"),
        (f"oci:{tmp_path}/layout", "2", "x.example/y:2"),
        (f"oci:{tmp_path}/layout", "latest", "base"),
    ):
        out = tmp_path / f"out-{tag}"
        skopeo("copy", "--preserve-digests", f"{place}:{tag}", f"dir:{out}")
        assert config_digest(out) == store.images.resolve(name).id
        digest = hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()
        assert f"sha256:{digest}" == store.images.resolve(name).manifest


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci"])
def test_to_ours(saved: tuple[Store, Path], tmp_path: Path, kind: str) -> None:
    """What skopeo writes is loaded with the id that the image had here."""
    store, path = saved
    id_ = store.images.resolve("app:1").id
    target = tmp_path / "target"
    # from one kind to the other skopeo writes the config anew, which makes another image
    source = f"docker-archive:{path}:app:1" if kind == "docker-archive" else f"oci-archive:{path}:1"
    skopeo("copy", source, f"{kind}:{target}:copied.example/app:3")
    data = make_archive(target)
    other = Store(f"{tmp_path}/other")
    try:
        assert other.load(data) == [id_]
        assert [layer.diff_id for layer in other.images.resolve(id_).record.layers] == [
            layer.diff_id for layer in store.images.resolve(id_).record.layers
        ]
        other.check()
    finally:
        other.close()
        other.run(other.loop.shutdown_default_executor())
        other.loop.close()


def make_archive(target: Path) -> bytes:
    """The archive, or the layout as one."""
    if target.is_file():
        return target.read_bytes()
    packed = target.with_suffix(".tar")
    with tarfile.open(packed, "w") as archive:
        archive.add(target, ".")
    return packed.read_bytes()


def test_an_index_of_ours(store: Store, tmp_path: Path) -> None:
    """skopeo finds this machine's image by either way in, and with `--all` copies every platform."""
    store.load(many.archive("many:1", *many.PLATFORMS), platform="linux/amd64")
    path = tmp_path / "saved.tar"
    path.write_bytes(store.run(store.save("many:1")))
    for number, place in enumerate((f"docker-archive:{path}:many:1", f"oci-archive:{path}:1")):
        skopeo("--override-arch", "amd64", "copy", place, f"dir:{tmp_path}/{number}")
        assert config_digest(tmp_path / str(number)) == store.images.resolve("many:1").id
    skopeo("copy", "--all", "--preserve-digests", f"oci-archive:{path}:1", f"oci:{tmp_path}/all:many")
    index = json.loads((tmp_path / "all/index.json").read_text())
    assert [entry["digest"] for entry in index["manifests"]] == [make.sha(many.INDEX)]
    blobs = set(os.listdir(tmp_path / "all/blobs/sha256"))
    assert {make.sha(many.LAYERS[name]).partition(":")[2] for name in many.PLATFORMS} <= blobs
