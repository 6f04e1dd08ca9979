"""`wherry image copy`, and engines that are reached through ssh: the real command, real engines, a stand-in for ssh."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, EngineProcess, running
from tests.images import image_archives as make

FAKE_SSH = """#!/bin/sh
# what sshd would do: the words behind the host are a command line for a shell
printf '%s\\n' "$*" >> "$SSH_LOG"
while [ "$1" != -- ]; do shift; done
shift 2
PATH="$SSH_BIN:$PATH" exec sh -c "$*"
"""


@pytest.fixture
def other() -> Iterator[EngineProcess]:
    """A second engine, empty."""
    with running(EngineProcess(), busybox=False) as engine:
        yield engine


@pytest.fixture
def ssh(tmp_path: Path, other: EngineProcess) -> dict[str, str]:
    """An environment whose `ssh` executes the command here, where the default engine is `other`."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(FAKE_SSH)
    program.chmod(0o755)
    remote = tmp_path / "remote" / "wherry"
    remote.parent.mkdir()
    remote.write_text(f'#!/bin/sh\nWHERRY_HOST={other.host} exec {BIN}/wherry "$@"\n')
    remote.chmod(0o755)
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "SSH_LOG": str(tmp_path / "ssh.log"),
        "SSH_BIN": str(remote.parent),
    }


def copied(engine: EngineProcess, *words: str, env: dict[str, str] | None = None) -> list[str]:
    """Copy, and return the layers' last words."""
    out = engine.run(str(BIN / "wherry"), "image", "copy", *words, env=env).out
    found = dict(line.split(": ", 1) for line in out.splitlines()[:-1] if ": " in line)
    return list(found.values())


def id_of(engine: EngineProcess, name: str) -> str:
    """An image's id."""
    return engine.wherry("image", "inspect", "-f", "{{.Id}}", name).out.strip()


@pytest.mark.root
def test_copy_to_a_socket(engine: EngineProcess, other: EngineProcess) -> None:
    """The image is there with its id and name, and runs; a second copy, and one under another name, sends nothing."""
    copied(engine, "busybox", other.host)
    assert id_of(other, "busybox") == id_of(engine, "busybox")
    assert other.wherry("run", "--rm", "--network", "none", "busybox", "echo", "there").out == "there\n"
    engine.wherry("tag", "busybox", "team/box:2")
    words = copied(engine, "team/box:2", other.host)
    assert "Copied" not in words
    assert "Already exists" in words
    assert id_of(other, "team/box:2") == id_of(engine, "busybox")
    engine.wherry("rmi", "team/box:2")
    done = engine.wherry("image", "copy", "nope", other.host, check=False)
    assert (done.code, done.err) == (1, "Error response from daemon: No such image: nope:latest\n")
    done = engine.wherry("image", "copy", "busybox", "there", check=False)
    assert done.code == 1
    assert "invalid destination 'there'" in done.err
    done = engine.wherry("image", "copy", "busybox", "unix:///nowhere", check=False)
    assert done.err == "Cannot connect to the Wherry daemon at unix:///nowhere. Is wherryd running?\n"


@pytest.mark.root
def test_digests_stay(engine: EngineProcess, other: EngineProcess) -> None:
    """An image of a multi-platform index comes with the index and all that is here of it."""
    layers = {name: make.tar({name: name.encode()}) for name in ("amd64", "arm64")}
    configs = {name: make.config([layers[name]], architecture=name) for name in layers}
    manifests = {name: make.manifest(configs[name], [layers[name]]) for name in layers}
    descriptors = [
        make.descriptor(raw, make.MANIFEST, platform={"os": "linux", "architecture": name})
        for name, raw in manifests.items()
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": make.INDEX, "manifests": descriptors}).encode()
    blobs = [index, *layers.values(), *configs.values(), *manifests.values()]
    archive = make.tar(make.layout([make.named(index, "many:1", make.INDEX)], blobs))
    engine.wherry("load", stdin=archive)
    copied(engine, "many:1", other.host)
    for kept in (engine, other):
        stored = Path(kept.roots.blobs, "sha256")
        assert {make.sha(blob)[7:] for blob in blobs} <= set(os.listdir(stored))
    assert id_of(other, "many:1") == id_of(engine, "many:1")
    other.wherry("rmi", "many:1")
    assert os.listdir(Path(other.roots.blobs, "sha256")) == []
    engine.wherry("rmi", "many:1")


@pytest.mark.root
def test_a_copy_goes_on_where_it_broke_off(engine: EngineProcess, other: EngineProcess) -> None:
    """The other engine is killed in the middle of a blob; the next copy sends the rest of it, and nothing twice."""
    layer = make.tar({"noise": os.urandom(4 << 20)})
    config = make.config([layer])
    engine.wherry("load", stdin=make.tar(make.docker20([(config, [layer], ["big:1"])])))
    offer = json.loads(engine.run("curl", "-s", *at(engine), "http://x/wherry/v1/copy/offer?name=big:1").out)
    assert [blob["size"] for blob in offer["blobs"] if blob["digest"] == make.sha(layer)] == [len(layer)]
    path = f"/wherry/v1/copy/blob?digest={make.sha(layer)}&size={len(layer)}&offset=0"
    with socket.socket(socket.AF_UNIX) as half:
        half.connect(other.roots.socket)
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(layer)}\r\n\r\n"
        half.sendall(head.encode() + layer[: 3 << 20])
        half.shutdown(socket.SHUT_WR)
        half.recv(1)
    other.kill()
    other.start()
    words = ["-H", "Content-Type: application/json", "-d", json.dumps(offer), "http://x/wherry/v1/copy/missing"]
    missing = json.loads(other.run("curl", "-s", *at(other), *words).out)
    (offset,) = (item["offset"] for item in missing if item["digest"] == make.sha(layer))
    assert 1 << 20 <= offset < len(layer)
    assert copied(engine, "big:1", other.host).count("Copied") == 2  # the layer, too, has another last word then
    assert id_of(other, "big:1") == id_of(engine, "big:1")
    engine.wherry("rmi", "big:1")


def at(engine: EngineProcess) -> list[str]:
    """Curl's flags."""
    return ["--unix-socket", engine.roots.socket]


@pytest.mark.root
def test_copy_through_ssh(engine: EngineProcess, other: EngineProcess, ssh: dict[str, str], tmp_path: Path) -> None:
    """`ssh://` executes `wherry system dial-stdio` on the host, with user, port and socket where they are given."""
    copied(engine, "busybox", "ssh://me@far.example:2222", env=ssh)
    assert id_of(other, "busybox") == id_of(engine, "busybox")
    said = (tmp_path / "ssh.log").read_text().splitlines()
    assert set(said) == {"-o ConnectTimeout=30 -T -l me -p 2222 -- far.example wherry system dial-stdio"}
    copied(engine, "busybox", f"ssh://far.example{other.roots.socket}", env=ssh)
    last = (tmp_path / "ssh.log").read_text().splitlines()[-1]
    assert last.endswith(f"-- far.example wherry --host unix://{other.roots.socket} system dial-stdio")


@pytest.mark.root
def test_every_command_through_ssh(engine: EngineProcess, other: EngineProcess, ssh: dict[str, str]) -> None:
    """Requests, uploads, streams with both directions and their ends work through ssh as through the socket."""
    copied(engine, "busybox", other.host)
    wherry, env = str(BIN / "wherry"), {**ssh, "WHERRY_HOST": "ssh://far.example"}
    assert other.run(wherry, "images", "-q", env=env).out == other.wherry("images", "-q").out
    words = ["run", "--rm", "-i", "--network", "none", "busybox", "sh", "-c", "cat; exit 3"]
    done = other.run(wherry, *words, stdin=b"x" * 300_000, env=env, code=3)
    assert done.out == "x" * 300_000
    archive = Path(ssh["SSH_LOG"]).parent / "box.tar"
    other.run(wherry, "save", "-o", str(archive), "busybox", env=env)
    assert other.run(wherry, "load", "-i", str(archive), env=env).out == "Loaded image: busybox:latest\n"
    done = other.run(
        wherry, "ps", env={**env, "SSH_BIN": "/nowhere", "PATH": f"{Path(archive).parent}/bin:/usr/bin:/bin"}, code=1
    )
    assert "make sure that the URL is valid, and that wherry is installed on the remote host" in done.err
    done = other.run(wherry, "-H", "ssh://me:pw@far.example", "ps", env=ssh, code=1)
    assert "plain-text password is not supported" in done.err
