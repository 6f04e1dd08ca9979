"""How much the builder's cache takes: told by `builder du`, kept by `builder prune` and by daemon.json's rules."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.conftest import Context
from tests.build.test_cache_mounts import mounts_of
from tests.build.test_wherry import build
from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root

MB = 1000 * 1000
LAYER = "FROM busybox\nRUN head -c {size} /dev/urandom > /f\n"
MOUNT = "FROM busybox\nRUN --mount=type=cache,id={id},target=/c head -c {size} /dev/zero > /c/f\n"


def test_du_and_prune_count_layers_and_mounts(other: Context) -> None:
    """Least recently used first, layers and cache mounts alike, until what may stay is left."""
    engine = other.engine
    build(other, MOUNT.format(id="old", size=2 * MB))
    build(other, LAYER.format(size=MB))
    build(other, MOUNT.format(id="new", size=4 * MB))
    told = engine.wherry("builder", "du").out
    assert told.startswith("ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED\n")
    sizes = sorted(
        line.split("\t")[3].strip() for line in told.splitlines()[1:] if line[:1].isalnum() and "true" in line
    )
    assert {"2MB", "4MB"} < set(sizes)
    assert any(size.endswith("MB*") for size in sizes)  # an image has the layer too
    assert "Description:\tcache mount old" in engine.wherry("builder", "du", "--verbose").out
    said = engine.wherry("builder", "prune", "-af", "--max-used-space", "5300000").out
    assert "Total reclaimed space: 2MB" in said
    assert [path.stat().st_size for path in _files(engine)] == [4 * MB]
    engine.wherry("builder", "prune", "-f", "--filter", "type=exec.cachemount", "--reserved-space", "9MB")
    assert len(mounts_of(engine)) == 1
    engine.wherry("builder", "prune", "-f", "--filter", "type=exec.cachemount")
    assert mounts_of(engine) == []
    assert build(other, LAYER.format(size=MB)).err.count("CACHED") == 2


def _files(engine: EngineProcess) -> list[Path]:
    return [path / "fs/f" for path in mounts_of(engine)]


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine that may keep three megabytes."""
    config = tmp_path / "daemon.json"
    policy = [{"filter": ["type=exec.cachemount"], "maxUsedSpace": "3MB"}, {"all": True, "reservedSpace": "3MB"}]
    config.write_text(json.dumps({"builder": {"gc": {"enabled": True, "policy": policy}}}))
    engine = EngineProcess("--config-file", str(config))
    try:
        engine.start()
        engine.wherry("image", "bootstrap", "busybox")
        yield engine
    finally:
        engine.destroy()
    engine.assert_clean()


def test_rules_of_daemon_json_keep_mounts_and_layers_small(ruled: EngineProcess, tmp_path: Path) -> None:
    """After a build the oldest goes, until the rules are kept."""
    (tmp_path / "context").mkdir()
    context = Context(tmp_path / "context", ruled)
    build(context, MOUNT.format(id="old", size=2 * MB))
    build(context, MOUNT.format(id="new", size=2 * MB))
    until(lambda: len(mounts_of(ruled)) == 1, "the older mount goes")
    assert [path.stat().st_size for path in _files(ruled)] == [2 * MB]
