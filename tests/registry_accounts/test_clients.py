"""Our own engine and skopeo as clients of a registry with accounts: login, push, pull, tags, search, delete."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, running
from tests.registry_accounts.serving import PASSWORD, Registry

pytestmark = pytest.mark.root


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    """Give an engine with busybox in it."""
    with running(EngineProcess()) as engine:
        yield engine


def test_our_engine(engine: EngineProcess, shared: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private repository can be searched, listed, pulled and pushed to by its members only."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    host = shared.host
    image = f"{host}/alice/ours:v1"

    def log_in(name: str) -> None:
        engine.wherry("login", "-u", name, "--password-stdin", host, stdin=PASSWORD.encode())

    def finds() -> bool:
        return "alice/ours" in engine.wherry("search", "--format", "{{.Name}}", f"{host}/ours").out

    def tags(code: int = 0) -> str:
        return engine.wherry("search", "--list-tags", f"{host}/alice/ours", code=code).out

    engine.wherry("tag", "busybox", image)
    assert engine.wherry("push", image, check=False).code == 1
    assert engine.wherry("login", "-u", "alice", "--password-stdin", host, stdin=b"wrong", check=False).code == 1
    log_in("alice")
    engine.wherry("push", image)
    digest = engine.wherry("image", "inspect", "-f", "{{index .RepoDigests 0}}", image).out.strip()
    assert finds()
    assert tags() == "v1\n"
    log_in("bob")
    assert not finds()
    tags(code=1)
    assert "denied" in engine.wherry("push", image, code=1).err
    engine.wherry("rmi", image)
    engine.wherry("pull", image, code=1)
    shared.known.shelves.set_member("alice/ours", "bob", "reader")
    assert finds()
    assert tags() == "v1\n"
    engine.wherry("pull", digest)
    engine.wherry("tag", "busybox", image)
    assert "denied" in engine.wherry("push", image, code=1).err
    engine.wherry("logout", host)
    assert not finds()
    tags(code=1)
    config = json.loads((tmp_path / "config.json").read_text())
    assert host not in config.get("auths", {})


def test_docker_with_our_engine(
    engine: EngineProcess, shared: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The docker command logs in, pushes, searches and pulls through our engine."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    image = f"{shared.host}/carol/through:v1"
    engine.docker("login", "-u", "carol", "--password-stdin", shared.host, stdin=PASSWORD.encode())
    engine.docker("tag", "busybox", image)
    engine.docker("push", image)
    assert "carol/through" in engine.docker("search", f"{shared.host}/through").out
    engine.docker("rmi", image)
    engine.docker("pull", image)
    engine.docker("logout", shared.host)
    assert "carol/through" not in engine.docker("search", f"{shared.host}/through").out


def test_skopeo(shared: Registry, tmp_path: Path) -> None:
    """Login, copy, inspect, list and delete, as members; strangers see nothing."""
    layout = tmp_path / "layout"
    subprocess.run(["skopeo", "--version"], check=True, capture_output=True)
    environment = {**os.environ, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}

    def skopeo(*arguments: str, text: str = "", code: int = 0) -> str:
        done = subprocess.run(
            ["skopeo", *arguments], input=text, text=True, capture_output=True, env=environment, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    def log_in(name: str) -> None:
        skopeo("login", "--tls-verify=false", "-u", name, "--password-stdin", shared.host, text=PASSWORD)

    repository = f"docker://{shared.host}/alice/skopeo"
    shared.push("alice/skopeo", user="alice")
    log_in("alice")
    skopeo("copy", "--src-tls-verify=false", f"{repository}:latest", f"oci:{layout}:v")
    skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:v", f"{repository}:second")
    inspected = json.loads(skopeo("inspect", "--tls-verify=false", f"{repository}:second"))
    assert inspected["Name"] == f"{shared.host}/alice/skopeo"
    assert inspected["RepoTags"] == ["latest", "second"]
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", repository))
    assert listed["Tags"] == ["latest", "second"]
    log_in("bob")
    skopeo("list-tags", "--tls-verify=false", repository, code=1)
    skopeo("delete", "--tls-verify=false", f"{repository}:second", code=1)
    log_in("alice")
    skopeo("delete", "--tls-verify=false", f"{repository}:second")
    assert "second" not in skopeo("list-tags", "--tls-verify=false", repository)
