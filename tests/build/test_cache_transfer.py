"""`--cache-to` and `--cache-from`: to a registry, a directory, inside the image; and what a hostile cache can do."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.build.caches import Layout, tar_gz
from tests.build.conftest import Context, tar_of
from tests.build.test_wherry import build
from tests.e2e.harness import Done
from tests.images.test_pull_peer import HTPASSWD, Peer
from tests.registry.harness import Registry

pytestmark = pytest.mark.root

STAGES = (
    "FROM busybox AS a\nRUN yes a | head -c 50000 > /f\nRUN echo of stage a > /never\n"
    "FROM busybox\nCOPY --from=a /f /g\nRUN true\nRUN cat /g > /h\n"
)
STEPS = 6  # FROM counts once


@pytest.fixture(scope="module", params=["debian", "ours"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry's address: Debian's docker-registry, and our own."""
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "ours":
        ours = Registry(directory)
        yield f"127.0.0.1:{ours.port}"
        ours.close()
    else:
        peer = Peer(directory)
        peer.start()
        yield peer.name
        peer.kill()


def uploaded(done: Done) -> set[str]:
    """Blobs that an export told of sending (`--progress=rawjson`)."""
    found = set()
    for line in done.err.splitlines():
        for status in json.loads(line).get("statuses", ()):
            if status["id"].startswith("writing layer"):
                found.add(status["id"])
    return found


def test_every_step_comes_from_a_registry(context: Context, other: Context, registry: str, tmp_path: Path) -> None:
    """mode=max of all stages: an engine with an empty store knows each step, and fetches only layers that it needs."""
    to = f"type=registry,ref={registry}/max:cache,mode=max"
    assert len(uploaded(build(context, STAGES, "--cache-to", to, "--progress=rawjson"))) == 5
    # a step more: its layer, and the config, are all that travels
    more = uploaded(build(context, STAGES + "RUN echo more > /m\n", "--cache-to", to, "--progress=rawjson"))
    assert len(more) == 2
    done = build(other, STAGES + "RUN echo more > /m\n", "--cache-from", f"{registry}/max:cache", "-t", "elsewhere")
    assert done.err.count("CACHED") == STEPS + 1
    assert "importing cache manifest from" in done.err
    assert other.run("elsewhere", "sh", "-c", "wc -c < /h; cat /m") == "50000\nmore\n"
    build(context, STAGES, "--cache-to", f"type=local,dest={tmp_path}/known,mode=max")
    blobs = Path(other.engine.roots.data, "blobs/sha256")
    known = Layout(tmp_path / "known")
    assert (blobs / known.blob(known.layer_of("cat /g")).name).exists()
    assert not (blobs / known.blob(known.layer_of("of stage a")).name).exists()
    # an offer is for the build that names the cache: without it the steps are carried out
    assert build(other, STAGES).err.count("CACHED") == 1


def test_what_came_for_a_build_that_fails_is_kept(context: Context, other: Context, tmp_path: Path) -> None:
    """A step of its own fails on top of imported ones: the next build with that cache does not fetch them again."""
    build(context, STAGES, "--cache-to", f"type=local,dest={tmp_path}/c,mode=max")
    named = ("--cache-from", f"type=local,src={tmp_path}/c")
    build(other, STAGES + "RUN false\n", *named, code=1)
    cache = Layout(tmp_path / "c")
    cache.blob(cache.layer_of("cat /g")).unlink()
    done = build(other, STAGES, *named, "-t", "kept")
    assert done.err.count("CACHED") == STEPS
    assert "is not used" not in done.err
    assert other.run("kept", "sh", "-c", "wc -c < /h") == "50000\n"


def test_min_has_the_layers_of_the_result(context: Context, other: Context, registry: str) -> None:
    """mode=min, the default: other stages are done again, what is in the result is not."""
    build(context, STAGES, "--cache-to", f"{registry}/min:cache")
    done = build(other, STAGES, "--cache-from", f"type=registry,ref={registry}/min:cache")
    assert done.err.count("CACHED") == 4  # FROM, and the three steps of the result
    assert "RUN yes a" in done.err


def test_an_inline_cache_comes_from_a_registry(context: Context, other: Context, registry: str) -> None:
    """The image itself is the cache, for who names it."""
    dockerfile = "FROM busybox\nRUN yes i | head -c 5000 > /f\nRUN echo 2 > /g\n"
    build(context, dockerfile, "-t", f"{registry}/inline:1", "--cache-to", "type=inline", "--push")
    assert build(other, dockerfile).err.count("CACHED") == 1
    other.engine.docker("builder", "prune", "-af")
    assert build(other, dockerfile, "--cache-from", f"{registry}/inline:1").err.count("CACHED") == 3


def test_a_cache_of_a_guarded_registry_needs_the_login(
    context: Context, other: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials the export fails (`ignore-error=true`: is told), the import is told."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    (tmp_path / "htpasswd").write_text(HTPASSWD + "\n")
    guarded = Peer(tmp_path, auth={"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}})
    guarded.start()
    try:
        to, dockerfile = f"type=registry,ref={guarded.name}/c:1", "FROM busybox\nRUN echo guarded > /f\n"
        assert "no basic auth credentials" in build(context, dockerfile, "--cache-to", to, code=1).err
        told = build(context, dockerfile, "--cache-to", f"{to},ignore-error=true")
        assert "failed to export cache" in told.err
        context.engine.wherry("login", "-u", "user", "--password-stdin", guarded.name, stdin=b"s3cret")
        build(context, dockerfile, "--cache-to", to)
        assert build(other, dockerfile, "--cache-from", f"{guarded.name}/c:1").err.count("CACHED") == 2
        other.engine.docker("builder", "prune", "-af")
        other.engine.wherry("logout", guarded.name)
        done = build(other, dockerfile, "--cache-from", f"{guarded.name}/c:1")
        assert done.err.count("CACHED") == 1
        assert "failed to import cache" in done.err
    finally:
        guarded.kill()


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("compression=zstd,compression-level=7,force-compression=true", "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("compression=uncompressed", "application/vnd.oci.image.layer.v1.tar"),
        ("oci-mediatypes=false,compression=gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        ("image-manifest=true,tag=other", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ],
)
def test_a_cache_has_the_form_that_is_asked_for(
    context: Context, other: Context, tmp_path: Path, flags: str, kind: str
) -> None:
    """Compression, media types and tag of a cache in a directory; each comes back."""
    build(context, STAGES, "--cache-to", f"type=local,dest={tmp_path}/c,mode=max,{flags}")
    assert {layer["mediaType"] for layer in Layout(tmp_path / "c").manifest["layers"]} == {kind}
    tag = ",tag=other" if "tag=" in flags else ""
    done = build(other, STAGES, "--cache-from", f"type=local,src={tmp_path}/c{tag}", "-t", "form")
    assert done.err.count("CACHED") == STEPS
    assert other.run("form", "sh", "-c", "wc -c < /h") == "50000\n"


def test_a_directory_gets_only_what_it_lacks(context: Context, tmp_path: Path) -> None:
    """A second export leaves the blobs alone that lie there."""
    to = f"type=local,dest={tmp_path}/c,mode=max"
    build(context, STAGES, "--cache-to", to)
    before = {path.name: path.stat().st_ctime_ns for path in (tmp_path / "c/blobs/sha256").iterdir()}
    build(context, STAGES + "RUN echo more > /m\n", "--cache-to", to)
    after = {path.name: path.stat().st_ctime_ns for path in (tmp_path / "c/blobs/sha256").iterdir()}
    assert {name for name, when in after.items() if before.get(name) == when} == set(before)
    assert len(after) == len(before) + 3  # a layer, config and manifest


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--cache-to=type=local,dest=x,colour=red", "unknown attribute 'colour' of cache exporter 'local'"),
        ("--cache-to=type=registry,ref=x/y,mode=mid", "unknown cache mode 'mid'"),
        ("--cache-to=type=registry,ref=x/y,compression=estargz", "compression=estargz is not supported"),
        ("--cache-to=type=registry,ref=x/y,image-manifest=false", "image-manifest=false is not supported"),
        ("--cache-to=type=registry,ref=x/y,mounts=maybe", "non-bool value 'maybe' specified for mounts"),
        ("--cache-to=type=registry", "ref not set for registry cache exporter"),
        ("--cache-to=type=gha", "unknown cache exporter: 'gha'"),
        ("--cache-from=type=s3,bucket=b", "unknown cache importer: 's3'"),
        ("--cache-from=type=registry,ref=x/y,digest=z", "unknown attribute 'digest' of cache importer 'registry'"),
        ("--cache-to=type=local", "dest is required for a local cache"),
    ],
)
def test_what_a_cache_cannot_be_is_refused_by_name(context: Context, flag: str, words: str) -> None:
    """Before anything is built."""
    done = build(context, "FROM busybox\nRUN echo never\n", flag, code=None)
    assert done.code
    assert words in done.err
    assert "echo never" not in done.err


# -- hostile caches


ONE = "FROM busybox\nRUN echo good > /f\nRUN cat /f > /g\n"


@pytest.fixture
def spoiled(context: Context, tmp_path: Path) -> Layout:
    """A good cache of `ONE`, to be spoiled."""
    build(context, ONE, "--cache-to", f"type=local,dest={tmp_path}/c,mode=max")
    return Layout(tmp_path / "c")


def refused(other: Context, cache: Layout, words: str) -> None:
    """The build does its steps itself, and says why; nothing of the cache is used, or left."""
    done = build(other, ONE, "--cache-from", f"type=local,src={cache.path}", "-t", "unspoiled")
    assert words in done.err
    assert other.run("unspoiled", "cat", "/f", "/g") == "good\ngood\n"
    assert build(other, ONE).err.count("CACHED") == 3


def test_a_layer_with_another_content_is_not_used(other: Context, spoiled: Layout) -> None:
    """Bytes that are not what their name says."""
    spoiled.blob(spoiled.layer_of("cat /f")).write_bytes(tar_gz(tar_of({"g": b"evil\n"}))[0])
    refused(other, spoiled, "a build cache is not used")


def test_a_layer_that_is_not_of_the_claimed_chain_is_not_used(other: Context, spoiled: Layout) -> None:
    """A layer whose digest is right, under the diff id of another."""
    evil, _ = tar_gz(tar_of({"g": b"evil\n"}))
    config, manifest = spoiled.config, spoiled.manifest
    place = next(one["layer"] for one in config["records"] if "cat /f" in one["description"])
    manifest["layers"][place] |= spoiled.put(evil)
    spoiled.change(config, manifest)
    refused(other, spoiled, "a build cache is not used")


def test_a_layer_that_is_missing_is_made_again(other: Context, spoiled: Layout) -> None:
    """A cache that names what it does not have."""
    spoiled.blob(spoiled.layer_of("cat /f")).unlink()
    refused(other, spoiled, "a build cache is not used")


def test_a_layer_that_nothing_needed_and_that_is_missing_is_left_out(
    context: Context, other: Context, tmp_path: Path
) -> None:
    """What is exported again has the other steps; the build and its results are what they are without it."""
    build(context, STAGES, "--cache-to", f"type=local,dest={tmp_path}/c,mode=max")
    cache = Layout(tmp_path / "c")
    cache.blob(cache.layer_of("of stage a")).unlink()
    flags = ("--cache-from", f"type=local,src={tmp_path}/c", "--cache-to", f"type=local,dest={tmp_path}/again,mode=max")
    done = build(other, STAGES, *flags, "-o", f"type=tar,dest={tmp_path}/out.tar")
    assert done.err.count("CACHED") == STEPS
    assert "a step is left out of the cache" in done.err
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getmember("h").size == 50000
    assert len(Layout(tmp_path / "again").config["records"]) == len(cache.config["records"]) - 1


def test_a_hostile_archive_in_a_cache_is_not_used(other: Context, spoiled: Layout) -> None:
    """A layer that climbs out of its root, with digests that are all right."""
    evil, diff_id = tar_gz(tar_of({"../../../../tmp/climbed": b"evil\n"}))
    config, manifest = spoiled.config, spoiled.manifest
    place = next(one["layer"] for one in config["records"] if "cat /f" in one["description"])
    manifest["layers"][place] |= spoiled.put(evil)
    config["diff_ids"][place] = diff_id
    spoiled.change(config, manifest)
    build(other, ONE, "--cache-from", f"type=local,src={spoiled.path}", code=None)
    assert not Path("/tmp/climbed").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"diff_ids": []},
        {"records": "none"},
        {"records": [{"keys": ["sha256:" + "0" * 64], "layer": 0}] * 10_001},
    ],
    ids=["fewer", "none", "too many"],
)
def test_a_config_that_does_not_fit_is_not_used(other: Context, spoiled: Layout, change: dict[str, object]) -> None:
    """Layers that are not the manifest's, records that are none, or too many of them."""
    spoiled.change(spoiled.config | change, spoiled.manifest)
    refused(other, spoiled, "invalid build cache")


def test_records_that_are_none_are_passed_over(other: Context, spoiled: Layout) -> None:
    """Keys that are no digests, layers that there are not: single records, and the rest is used."""
    config = spoiled.config
    good = config["records"]
    key = "sha256:" + "1" * 64
    bad: list[object] = [
        None,
        {"keys": [1], "layer": 0},
        {"keys": [key], "layer": 99},
        {"keys": [key], "layer": True},
        {"keys": []},
    ]
    spoiled.change(config | {"records": [*bad, *good]}, spoiled.manifest)
    done = build(other, ONE, "--cache-from", f"type=local,src={spoiled.path}")
    assert done.err.count("CACHED") == 3


@pytest.mark.parametrize("kind", ["cyclic", "huge", "wrong digest", "no json"])
def test_a_hostile_registry_is_told_of_and_not_used(other: Context, kind: str) -> None:
    """Indexes that lead to themselves, documents without end, another digest than asked for: none fails the build."""
    index = "application/vnd.oci.image.index.v1+json"
    own = "sha256:" + "a" * 64

    class Hostile(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"{}"
            if "manifests" in self.path:
                entry = {"mediaType": index, "digest": own, "size": 300, "platform": {"os": "linux"}}
                value = {"schemaVersion": 2, "mediaType": index, "manifests": [entry]}
                body = json.dumps(value).encode().ljust(300)
                body = {"huge": body.ljust(5 << 20), "no json": b"["}.get(kind, body)
            self.send_response(200)
            self.send_header("Content-Type", index if "manifests" in self.path else "application/json")
            self.send_header("Content-Length", str(len(body)))
            if kind == "cyclic":
                self.send_header("Docker-Content-Digest", own)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        ref = f"127.0.0.1:{server.server_address[1]}/evil:cache"
        done = build(other, "FROM busybox\nRUN echo mine > /f\n", "--cache-from", ref, "-t", "mine")
        assert "failed to import cache" in done.err
        assert other.run("mine", "cat", "/f") == "mine\n"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_directory_that_is_no_cache_yet_is_no_error(context: Context, tmp_path: Path) -> None:
    """The first build of all has none to read."""
    build(context, "FROM busybox\nRUN true\n", "--cache-from", f"type=local,src={tmp_path}/none")
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
