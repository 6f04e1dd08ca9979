"""What one build leaves in the cache for another: contexts and imported caches that try to plant a layer there."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.build.caches import Layout, tar_gz
from tests.build.conftest import CLASSIC, Context, tar_of
from tests.build.test_wherry import build

pytestmark = pytest.mark.root


# -- a build context

HONEST = "echo honest; exit 0 # "


class Members:
    """An archive, member by member."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._out, mode="w", format=tarfile.PAX_FORMAT)

    def file(self, name: str, data: str) -> "Members":
        """Add a plain file."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o755
        self._tar.addfile(info, io.BytesIO(data.encode()))
        return self

    def sparse(self, name: str, data: str) -> "Members":
        """Add a file in pax's sparse form 1.0, with all of its data."""
        body = f"1\n0\n{len(data)}\n".encode().ljust(512, b"\0") + data.encode()
        info = tarfile.TarInfo("GNUSparseFile.0/x")
        info.size, info.mode = len(body), 0o755
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": name,
            "GNU.sparse.realsize": str(len(data)),
        }
        self._tar.addfile(info, io.BytesIO(body))
        return self

    def other(self, kind: bytes, name: str, link: str = "") -> "Members":
        """Add what has no data."""
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, link, 0o755
        self._tar.addfile(info)
        return self

    def bytes(self) -> bytes:
        """All of it."""
        self._tar.close()
        return self._out.getvalue()


def planted(way: str, honest: str, evil: str) -> bytes:
    """A context in which `d/run.sh` has the honest bytes first, and holds others in the end."""
    members = Members().file("Dockerfile", "FROM busybox\nCOPY d/run.sh /run.sh\n")
    if way == "sparse":
        members.file("d/run.sh", honest).sparse("d/run.sh", evil)
    elif way == "empty":
        members.file("d/run.sh", honest).file("d/run.sh", "")
    elif way == "hard link":
        members.file("x", honest).sparse("x", evil).other(tarfile.LNKTYPE, "d/run.sh", "x")
    else:
        # several go at once: the numbers of some are given to what comes next
        for number in range(8):
            members.file(f"d/old/{number}", honest)
        members.other(tarfile.SYMTYPE, "d/old", ".")
        members.sparse("d/old/run.sh" if way == "link" else "d/run.sh", evil)
    return members.bytes()


@pytest.mark.parametrize("way", ["sparse", "empty", "hard link", "directory", "link"])
def test_a_context_that_replaces_a_file_poisons_no_other_build(context: Context, way: str) -> None:
    """The key of a step is what its files hold in the end, not what an entry held that was replaced."""
    honest, evil = HONEST + way, "echo evil"

    def made(archive: bytes) -> str:
        argv = ("docker", "build", "-q", "-")
        return context.engine.run(*argv, env=CLASSIC, stdin=archive).out.strip()

    attacker = made(planted(way, honest, evil))
    assert context.run(attacker, "cat", "/run.sh") == ("" if way == "empty" else evil)
    victim = made(_plain(honest))
    assert context.run(victim, "cat", "/run.sh") == honest


def _plain(content: str) -> bytes:
    return Members().file("Dockerfile", "FROM busybox\nCOPY d/run.sh /run.sh\n").file("d/run.sh", content).bytes()


def test_a_bind_source_is_no_pattern(context: Context) -> None:
    """A directory that is called `[x]` counts with its own files, not with those of `x`; also where a cache begins."""
    for kind in ("bind", "cache,from=files"):
        dockerfile = (
            "FROM scratch AS files\nCOPY . /\n"
            f"FROM busybox\nRUN --mount=type={kind},source=[x],target=/m cat /m/f > /r\n"
        )
        context.write("x/f", "another\n")
        for content in ("one\n", "two\n"):
            context.write("[x]/f", content)
            build(context, dockerfile, "-t", "bound")
            assert context.run("bound", "cat", "/r") == content
    dockerfile = "FROM busybox\nRUN --mount=type=bind,source=[y],target=/m true\n"
    assert "[y]" in build(context, dockerfile, code=1).err


# -- an imported cache

VICTIM = "FROM busybox\nRUN echo good > /f\n"


def evil_cache(context: Context, path: Path, project: str, *, renamed: bool) -> Layout:
    """A cache of a project, of which one record has an evil layer.

    Args:
        project: a Dockerfile whose second instruction makes `/f`.
        renamed: that record has the victim's key beside its own.
    """
    build(context, VICTIM, "--cache-to", f"type=local,dest={path}/victim,mode=max")
    build(context, project, "--cache-to", f"type=local,dest={path}/evil,mode=max")
    (key,) = Layout(path / "victim").config["records"][0]["keys"]
    cache = Layout(path / "evil")
    config, manifest = cache.config, cache.manifest
    evil, diff_id = tar_gz(tar_of({"f": b"evil\n"}))
    record = config["records"][0]
    manifest["layers"][record["layer"]] |= cache.put(evil)
    config["diff_ids"][record["layer"]] = diff_id
    if renamed:
        record["keys"] = [*record["keys"], key]
    cache.change(config, manifest)
    return cache


def test_an_imported_record_answers_only_the_build_that_named_it(
    context: Context, other: Context, tmp_path: Path
) -> None:
    """One key of it is the project's, another that of a step of somebody else, who named no cache."""
    project = "FROM busybox\nRUN echo project > /f\n"
    cache = evil_cache(context, tmp_path, project, renamed=True)
    key = cache.config["records"][0]["keys"][1]
    flags = ("--cache-from", f"type=local,src={cache.path}", "--cache-to", f"type=local,dest={tmp_path}/again,mode=max")
    assert build(other, project, *flags).err.count("CACHED") == 2
    assert build(other, VICTIM, "-t", "victim").err.count("CACHED") == 1
    assert other.run("victim", "cat", "/f") == "good\n"
    # what the project exports is called only by what this engine has computed
    records = Layout(tmp_path / "again").config["records"]
    assert len(records) == 1
    assert key not in records[0]["keys"]


def test_an_imported_layer_is_no_result_of_ours(context: Context, other: Context, tmp_path: Path) -> None:
    """Who names a cache gets what it offers; the same build without it does its step, which then counts."""
    cache = evil_cache(context, tmp_path, VICTIM, renamed=False)
    named = ("--cache-from", f"type=local,src={cache.path}")
    for _ in range(2):
        assert build(other, VICTIM, *named, "-t", "named").err.count("CACHED") == 2
        assert other.run("named", "cat", "/f") == "evil\n"
    assert build(other, VICTIM, "-t", "victim").err.count("CACHED") == 1
    assert other.run("victim", "cat", "/f") == "good\n"
    # what was carried out here wins from now on
    assert build(other, VICTIM, *named, "-t", "named").err.count("CACHED") == 2
    assert other.run("named", "cat", "/f") == "good\n"


def test_an_inline_cache_answers_only_the_build_that_named_it(context: Context, other: Context, tmp_path: Path) -> None:
    """The classic builder's `--cache-from`: an image that is here, whose record has somebody else's key."""
    project = "FROM busybox\nRUN echo inline > /f\n"
    build(context, VICTIM, "--cache-to", f"type=local,dest={tmp_path}/victim,mode=max")
    (key,) = Layout(tmp_path / "victim").config["records"][0]["keys"]
    build(context, project, "--cache-to", "type=inline", "-o", f"type=docker,name=inline,dest={tmp_path}/image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:
        members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        files = {name: file.read() for name, file in members.items() if file is not None}
    told = json.loads(files["manifest.json"])[0]
    config = json.loads(files[told["Config"]])
    config["wherry.buildcache.v1"]["records"][-1]["keys"].append(key)
    raw = json.dumps(config).encode()
    name = f"{hashlib.sha256(raw).hexdigest()}.json"
    layers = {layer: files[layer] for layer in told["Layers"]}
    manifest = json.dumps([{"Config": name, "RepoTags": ["inline:latest"], "Layers": told["Layers"]}]).encode()
    other.engine.run("docker", "load", stdin=tar_of({**layers, name: raw, "manifest.json": manifest}))
    done = other.docker(project, "--cache-from", "inline")
    assert "Using cache" in done.out
    done = other.docker(VICTIM, "-t", "victim")
    assert "Using cache" not in done.out
    assert other.run("victim", "cat", "/f") == "good\n"
