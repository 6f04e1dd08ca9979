"""Cache mounts in exported caches: what `RUN --mount=type=cache` keeps goes along where asked, and comes back."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.build.caches import Layout, tar_gz
from tests.build.conftest import Context, tar_of
from tests.build.test_cache_transfer import registry
from tests.build.test_secrets import CANARY, places_with
from tests.build.test_wherry import WHERRY, build
from tests.e2e.harness import EngineProcess, until

__all__ = ["registry"]

pytestmark = pytest.mark.root

FILL = (
    "FROM busybox\nRUN --mount=type=cache,id=wheels,target=/c,mode=0750,uid=5,gid=6 "
    "mkdir -p /c/d && echo kept > /c/d/f && chown 7:8 /c/d/f && chmod 4711 /c/d/f && ln -s d/f /c/l && "
    "ln /c/d/f /c/h && touch /c/.wh.name\n"
)
SHOW = (
    "FROM busybox\nRUN --mount=type=cache,id=wheels,target=/c,mode=0750,uid=5,gid=6 "
    "stat -c '%n %a %u:%g %h' /c /c/d/f /c/.wh.name > /seen; cat /c/l >> /seen || true\n"
)
SEEN = "/c 750 5:6 3\n/c/d/f 4711 7:8 2\n/c/.wh.name 644 0:0 1\nkept\n"


def mounts_of(engine: EngineProcess) -> list[Path]:
    """Directories of an engine's cache mounts."""
    return sorted(Path(engine.roots.data, "build/mounts").iterdir())


def usage(engine: EngineProcess) -> dict[str, int]:
    """Cache mounts as `system df` counts them: bytes by description."""
    done = engine.run("curl", "-s", "--unix-socket", engine.roots.socket, "http://x/system/df")
    entries = json.loads(done.out)["BuildCache"]
    return {entry["Description"]: entry["Size"] for entry in entries if entry["Type"] == "exec.cachemount"}


@pytest.fixture
def mountless(context: Context, other: Context) -> Context:
    """Both engines without cache mounts; the second is given."""
    context.engine.docker("builder", "prune", "-af")
    assert mounts_of(context.engine) == mounts_of(other.engine) == []
    return other


def test_a_mount_goes_to_a_registry_and_comes_back(context: Context, mountless: Context, registry: str) -> None:
    """Names, modes, owners and links of it; counted where it comes, and pruned; one that is there stays."""
    ref = f"type=registry,ref={registry}/mounts:cache"
    build(context, FILL, "--cache-to", f"{ref},mounts=true")
    build(mountless, SHOW, "--cache-from", f"{ref},mounts=true", "-t", "seen")
    assert mountless.run("seen", "cat", "/seen") == SEEN
    assert usage(mountless.engine) == {"cache mount wheels": 8}
    build(mountless, "FROM busybox\nRUN --mount=type=cache,id=wheels,target=/c echo own > /c/own\n")
    build(mountless, SHOW, "--cache-from", f"{ref},mounts=true", "--no-cache")
    assert (mounts_of(mountless.engine)[0] / "fs/own").read_text() == "own\n"
    mountless.engine.docker("builder", "prune", "-af")
    assert mounts_of(mountless.engine) == []


def test_mounts_go_and_come_only_where_they_are_asked_for(context: Context, mountless: Context, tmp_path: Path) -> None:
    """They outlive the build: nobody gets them by naming a cache alone."""
    build(context, FILL, "--cache-to", f"type=local,dest={tmp_path}/c")
    assert Layout(tmp_path / "c").config["mounts"] == []
    build(context, FILL, "--cache-to", f"type=local,dest={tmp_path}/c,mounts=true")
    assert [one["id"] for one in Layout(tmp_path / "c").config["mounts"]] == ["wheels"]
    build(mountless, FILL, "--cache-from", f"type=local,src={tmp_path}/c")
    assert mounts_of(mountless.engine) == []
    done = build(mountless, FILL, "--cache-from", f"type=local,src={tmp_path}/c,mounts=true")
    assert done.err.count("CACHED") == 2
    assert (mounts_of(mountless.engine)[0] / "fs/d/f").read_text() == "kept\n"


def test_a_step_that_has_the_mount_alone_is_waited_for(context: Context, tmp_path: Path) -> None:
    """sharing=locked: another build's step ends first, and what it wrote last is in the export."""
    mount = "--mount=type=cache,id=alone,sharing=locked,target=/c"
    context.engine.docker("builder", "prune", "-af")
    build(context, f"FROM busybox\nRUN {mount} echo 1 > /c/a\n")
    (tmp_path / "wait").mkdir()
    (tmp_path / "wait/Dockerfile").write_text(
        f"FROM busybox\nRUN {mount} echo > /c/began && until test -e /c/go; do usleep 20000; done; echo 2 > /c/b\n"
    )
    key, to = mounts_of(context.engine)[0], f"type=local,dest={tmp_path}/c,mounts=true"
    running = subprocess.Popen([WHERRY, "build", "-q", str(tmp_path / "wait")], env=context.engine.env)
    exporting = None
    try:
        until((key / "fs/began").exists, "the step runs")
        exporting = subprocess.Popen(
            [WHERRY, "build", "--progress=plain", "--cache-to", to, str(context.directory)],
            env=context.engine.env,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert exporting.stderr is not None
        assert any("exporting cache to client directory" in line for line in exporting.stderr)
        assert exporting.poll() is None
        (key / "fs/go").touch()
        exporting.communicate(timeout=60)
        assert running.wait(60) == exporting.returncode == 0
    finally:
        for process in (running, exporting):
            if process is not None:
                process.kill()
                process.wait()
    cache = Layout(tmp_path / "c")
    archive = cache.blob(cache.manifest["layers"][cache.config["mounts"][0]["layer"]]["digest"])
    listed = subprocess.run(["tar", "-tzf", str(archive)], capture_output=True, text=True, check=True).stdout
    assert "b" in {Path(line).name for line in listed.splitlines()}


@pytest.mark.parametrize("name", ["../../climbed", "link/climbed"])
def test_a_hostile_archive_of_a_mount_is_refused(
    context: Context, mountless: Context, tmp_path: Path, name: str
) -> None:
    """What climbs out of its directory: the import is told of, nothing is left, the build goes on."""
    build(context, FILL, "--cache-to", f"type=local,dest={tmp_path}/c,mounts=true")
    cache = Layout(tmp_path / "c")
    subprocess.run(["ln", "-s", str(tmp_path), str(tmp_path / "link")], check=True)
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "a.tar"), "link"], check=True)
    evil, diff_id = tar_gz((tmp_path / "a.tar").read_bytes().rstrip(b"\0").ljust(512, b"\0") + tar_of({name: b"evil"}))
    config, manifest = cache.config, cache.manifest
    place = config["mounts"][0]["layer"]
    manifest["layers"][place] |= cache.put(evil)
    config["diff_ids"][place] = diff_id
    cache.change(config, manifest)
    done = build(mountless, FILL, "--cache-from", f"type=local,src={cache.path},mounts=true")
    assert "failed to import cache" in done.err
    assert not (tmp_path / "climbed").exists()
    assert not list(Path(mountless.engine.roots.data).rglob("climbed"))
    assert not [path for path in Path(mountless.engine.roots.ingest).iterdir() if path.name.startswith("layer-")]


def test_a_mount_that_a_crash_left_half_is_none(context: Context, mountless: Context, tmp_path: Path) -> None:
    """Killed between directory and record, or while it was unpacked: the next import makes it whole."""
    build(context, FILL, "--cache-to", f"type=local,dest={tmp_path}/c,mounts=true")
    key = Layout(tmp_path / "c").config["mounts"][0]["key"]
    engine = mountless.engine
    engine.kill()
    half = Path(engine.roots.data, "build/mounts", key, "fs/half")
    half.parent.mkdir(parents=True)
    half.touch()
    staged = Path(engine.roots.ingest, "layer-0123456789abcdef/fs/half")
    staged.parent.mkdir(parents=True)
    staged.touch()
    engine.start()
    build(mountless, SHOW, "--cache-from", f"type=local,src={tmp_path}/c,mounts=true", "-t", "seen")
    assert mountless.run("seen", "cat", "/seen") == SEEN
    assert not half.exists()
    assert not staged.exists()


def test_a_secret_is_in_no_exported_cache(context: Context, mountless: Context, tmp_path: Path) -> None:
    """Neither in its documents, nor in a layer, nor in a cache mount; nor in what comes of it elsewhere."""
    (tmp_path / "secret").write_text(CANARY)
    dockerfile = (
        "FROM busybox\nRUN --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY "
        '--mount=type=cache,target=/c test "$(cat /run/secrets/key)" = "$KEY" && echo "${#KEY}" | tee /c/n > /n\n'
    )
    to = f"type=local,dest={tmp_path}/c,mode=max,mounts=true"
    build(context, dockerfile, "--secret", f"id=key,src={tmp_path}/secret", "--cache-to", to)
    places = (str(tmp_path / "c"), context.engine.roots.data, str(context.engine.log))
    assert places_with(CANARY, *places) == []
    done = build(mountless, dockerfile, "--cache-from", f"type=local,src={tmp_path}/c,mounts=true")
    assert done.err.count("CACHED") == 2
    assert places_with(CANARY, mountless.engine.roots.data) == []
