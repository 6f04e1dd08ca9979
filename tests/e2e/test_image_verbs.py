"""The image verbs through both commands: trees, prune, shared sizes, manifests of a registry."""

import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.harness import BIN, EngineProcess, until


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on loopback; gives its host and port."""
    base = tmp_path_factory.mktemp("registry")
    log = base / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [str(BIN / "wherry-registry"), "serve", "--root", str(base / "data"), "--addr", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: '"serving"' in log.read_text(), "the registry serves")
        found = re.search(r"127\.0\.0\.1:[1-9]\d*", log.read_text())
        assert found is not None
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)


def test_tree(engine: EngineProcess) -> None:
    """Both commands show the manifest below its image, and what is in use."""
    engine.docker("run", "-d", "--name", "kk", "busybox", "sleep", "99")
    ours = engine.wherry("images", "--tree").out.splitlines()
    assert [line.split()[0] for line in ours[4:6]] == ["busybox:latest", "└─"]
    assert ours[4].split()[-1] == ours[5].split()[-1] == "U"
    listed = json.loads(
        engine.run("curl", "-s", "--unix-socket", engine.roots.socket, "http://d/v1.51/images/json?manifests=1").out
    )[0]["Manifests"][0]
    assert listed["Descriptor"]["digest"] == listed["ID"]
    assert listed["Size"]["Content"] > listed["Descriptor"]["size"]
    assert len(listed["ImageData"]["Containers"]) == 1
    assert "--quiet is not yet supported with --tree" in engine.wherry("images", "--tree", "-q", code=1).err


def test_shared_size(engine: EngineProcess) -> None:
    """A layer of two images is shared; what one adds is its own."""
    engine.docker("run", "--name", "kk", "busybox", "sh", "-c", "echo 12345 > /x")
    engine.docker("commit", "kk", "k:1")
    url = "http://d/v1.51/images/json?shared-size=1"
    lines = json.loads(engine.run("curl", "-s", "--unix-socket", engine.roots.socket, url).out)
    base, made = sorted(lines, key=lambda line: line["Size"])
    assert (made["Size"] - made["SharedSize"], base["Size"] - base["SharedSize"]) == (6, 0)
    engine.docker("rmi", "k:1")


def test_prune(engine: EngineProcess) -> None:
    """Dangling images go, used ones and named ones stay; the space that was freed is told."""
    engine.docker("create", "--name", "kk", "busybox")
    for label in ("a", "b"):
        engine.docker("run", "--name", label * 2, "busybox", "sh", "-c", f"echo {label * 100} > /{label}")
        engine.docker("commit", "-c", f"LABEL l={label}", label * 2)
    said = engine.wherry("image", "prune", "-f", "--filter", "label=l=a").out
    assert said.splitlines()[-1] == "Total reclaimed space: 101B"
    assert len(engine.docker("images", "-aq").out.split()) == 2
    assert "deleted: sha256:" in engine.wherry("image", "prune", "-f").out
    assert engine.docker("images", "--format", "{{.Repository}}").out == "busybox\n"
    assert engine.wherry("image", "prune", "-af").out == "Total reclaimed space: 0B\n"


def test_manifest_inspect(engine: EngineProcess, registry: str) -> None:
    """What a registry has, through both commands, word for word."""
    name = f"{registry}/team/app:1"
    engine.docker("tag", "busybox", name)
    engine.docker("push", "-q", name)
    for flags in ((), ("-v",)):
        assert (
            engine.wherry("manifest", "inspect", *flags, name).out
            == engine.docker("manifest", "inspect", "--insecure", *flags, name).out
        )
    missing = engine.wherry("manifest", "inspect", f"{registry}/team/app:nope", code=1)
    assert missing.err == engine.docker("manifest", "inspect", "--insecure", f"{registry}/team/app:nope", code=1).err
    engine.docker("rmi", name)


def test_system_check(own_engine: EngineProcess, registry: str) -> None:
    """What was damaged is named, and pulled again where a registry has it; of the rest the exit code tells."""
    engine = own_engine
    name = f"{registry}/team/check:1"
    engine.docker("tag", "busybox", name)
    engine.docker("push", "-q", name)
    engine.docker("rmi", name, "busybox")
    engine.docker("pull", "-q", name)
    assert "all whole" in engine.wherry("system", "check").out
    assert engine.wherry("system", "check", "-q").out == ""
    id_ = engine.docker("image", "inspect", "-f", "{{.Id}}", name).out.strip()
    blob = f"{engine.roots.blobs}/{id_.replace(':', '/')}"
    os.chmod(blob, 0o600)
    with open(blob, "r+b") as file:
        file.write(b"#")
    found = engine.wherry("system", "check", code=1).out
    assert f"blob {id_} (of {name}): corrupt" in found
    assert "1 not as they should be" in found
    mended = engine.wherry("system", "check", "--repair").out
    assert "pulled again" in mended
    assert "all whole, 1 mended" in mended
    assert engine.docker("run", "--rm", name, "echo", "hi").out == "hi\n"
    engine.docker("commit", "-c", "LABEL a=b", engine.docker("create", name).out.strip(), "made:1")
    made = engine.docker("image", "inspect", "-f", "{{.Id}}", "made:1").out.strip()
    os.unlink(f"{engine.roots.blobs}/{made.replace(':', '/')}")
    lost = engine.wherry("system", "check", "--repair", code=1).out
    assert "not mended: it was not pulled from a registry" in lost
