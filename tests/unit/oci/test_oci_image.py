"""Image documents are read strictly: one document has one reading."""

import json
from typing import Any

import pytest

from wherry.errors import HostileInput, InvalidSpec
from wherry.oci import image

SHA = "sha256:" + "a" * 64
DESCRIPTOR = {"mediaType": image.OCI_LAYER, "digest": SHA, "size": 3}
CONFIG = {"mediaType": image.OCI_CONFIG, "digest": SHA, "size": 2}


def manifest(**changes: Any) -> bytes:
    """A manifest with some keys changed; None takes one away."""
    document = {"schemaVersion": 2, "mediaType": image.OCI_MANIFEST, "config": CONFIG, "layers": [DESCRIPTOR]}
    document.update(changes)
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


def test_manifest() -> None:
    """A manifest is read; keys that nobody knows are left in the bytes."""
    read = image.read_manifest(manifest(extra={"a": 1}, annotations={"k": "v"}), image.OCI_MANIFEST)
    assert read.config.digest == SHA
    assert [layer.size for layer in read.layers] == [3]
    assert read.annotations == {"k": "v"}


def test_manifest_without_type() -> None:
    """OCI manifests may leave their media type out."""
    assert image.read_manifest(manifest(mediaType=None), image.OCI_MANIFEST).media_type == ""


@pytest.mark.parametrize(
    "raw",
    [
        manifest(manifests=[DESCRIPTOR]),
        manifest(fsLayers=[]),
        manifest(schemaVersion=1),
        manifest(schemaVersion=None),
        manifest(mediaType=image.OCI_INDEX),
        manifest(config=None),
        manifest(layers=None),
        manifest(layers={}),
        manifest(layers=[{**DESCRIPTOR, "digest": "sha256:../x"}]),
        manifest(layers=[{**DESCRIPTOR, "size": -1}]),
        manifest(layers=[{**DESCRIPTOR, "size": "3"}]),
        manifest(layers=[{**DESCRIPTOR, "size": 1 << 64}]),
        manifest(config={**CONFIG, "digest": SHA.upper()}),
        b"",
        b"[]",
        b"null",
        b"{",
        b'"x"',
        b"\xff\xfe{}",
        manifest()[:-1] + b', "layers": []}',
        manifest()[:-1] + b', "Layers": []}',
        manifest()[:-1] + b', "CONFIG": {}}',
        manifest()[:-1] + b', "mediatype": "x"}',
    ],
)
def test_bad_manifest(raw: bytes) -> None:
    """What is no manifest, or has two readings, is refused (CVE-2021-41190)."""
    with pytest.raises(InvalidSpec):
        image.read_manifest(raw)


def test_announced_type() -> None:
    """A document must be what the one that points at it says."""
    with pytest.raises(InvalidSpec, match="not the announced"):
        image.read_manifest(manifest(), image.DOCKER_MANIFEST)
    with pytest.raises(InvalidSpec, match="announced"):
        image.read_manifest(manifest(mediaType=None), image.OCI_INDEX)


@pytest.mark.parametrize("key", ["layers", "config"])
def test_ambiguous_index(key: str) -> None:
    """An index with the keys of a manifest is refused."""
    document = {"schemaVersion": 2, "manifests": [DESCRIPTOR]}
    assert len(image.read_index(json.dumps(document).encode()).manifests) == 1
    with pytest.raises(InvalidSpec, match="ambiguous"):
        image.read_index(json.dumps({**document, key: []}).encode())


def test_limits() -> None:
    """Size, depth and the number of layers have ceilings; deep input ends in an error, not in a crash."""
    with pytest.raises(HostileInput, match="larger"):
        image.read_manifest(b" " * (image.MANIFEST_LIMIT + 1))
    with pytest.raises(HostileInput, match="deeper"):
        image.read_manifest(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    with pytest.raises(HostileInput, match="layers"):
        image.read_manifest(manifest(layers=[DESCRIPTOR] * 513))


def test_brackets_in_strings() -> None:
    """Depth is counted outside of strings."""
    raw = json.dumps({"config": {"Env": ["A=" + "[{" * 500 + '\\"']}, "rootfs": {"diff_ids": []}}).encode()
    assert image.read_config(raw).config.env is not None


@pytest.mark.parametrize("text", ["\\ud800", "\\uDFFFx", "\\udc00\\ud800"])
def test_attack_half_a_surrogate_pair_is_refused(text: str) -> None:
    """No UTF-8 has it: a document that was read could not be written or answered with."""
    for raw in (f'{{"config": {{"Labels": {{"a": "{text}"}}}}}}', f'{{"config": {{"Labels": {{"{text}": "a"}}}}}}'):
        with pytest.raises(InvalidSpec, match="invalid image config"):
            image.read_config(raw.encode())


def test_a_surrogate_pair_is_a_character() -> None:
    """A pair is read, and an escaped backslash before `ud800` is no surrogate."""
    read = image.read_config(b'{"config": {"Labels": {"a": "\\ud83d\\ude00", "b": "\\\\ud800"}}}')
    assert read.config.labels == {"a": "\U0001f600", "b": "\\ud800"}
    assert image.read_config(image.encode(read)) == read


def test_config() -> None:
    """Docker's further keys are read, nulls are absent, a null port is a port."""
    document: dict[str, Any] = {
        "architecture": "arm64",
        "os": "linux",
        "author": None,
        "config": {
            "User": None,
            "Env": None,
            "Cmd": "sh",
            "Entrypoint": ["a"],
            "ExposedPorts": {"80/tcp": None, "81/tcp": {}},
            "Volumes": {"/v": {}},
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5, "Retries": None},
            "OnBuild": ["RUN x"],
            "ArgsEscaped": True,
            "Labels": {"maintainer": "x", "Maintainer": "y"},
            "StopSignal": "SIGINT",
            "Shell": ["/bin/bash"],
        },
        "container_config": {"Cmd": None},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "x", "empty_layer": True, "comment": None}],
        "rootfs": {"type": "layers", "diff_ids": [SHA]},
        "moby.buildkit.buildinfo.v1": "x",
    }
    config = image.read_config(json.dumps(document).encode())
    assert config.config.cmd == ["sh"]
    assert config.config.exposed_ports == {"80/tcp": None, "81/tcp": {}}
    assert config.config.healthcheck is not None
    assert config.config.healthcheck.interval == 5
    assert config.config.args_escaped
    assert config.config.on_build == ["RUN x"]
    assert config.history[0].empty_layer
    assert str(config.platform) == "linux/arm64"


@pytest.mark.parametrize(
    "document",
    [
        {"rootfs": {"diff_ids": ["sha256:x"]}},
        {"rootfs": {"diff_ids": ["sha512:" + "a" * 128]}},
        {"rootfs": {"type": "base", "diff_ids": []}},
        {"config": []},
        {"config": {"Env": [1]}},
        {"history": {}},
    ],
)
def test_bad_config(document: dict[str, Any]) -> None:
    """A config that cannot be one is refused."""
    with pytest.raises(InvalidSpec):
        image.read_config(json.dumps(document).encode())


def test_chain_ids() -> None:
    """Chain ids are those of the specification: the lowest is its diff id, each further one hashes what is below."""
    first, second = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert image.chain_ids([]) == []
    assert image.chain_ids([first]) == [first]
    assert image.chain_ids([first, second]) == [
        first,
        "sha256:9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5",
    ]


@pytest.mark.parametrize("key", ["MANIFESTS", "Manifests", "FSLayers"])
def test_attack_33_a_second_reading_in_another_case(key: str) -> None:
    """Go takes a key in any case: a manifest must not have an index's keys in any."""
    descriptor = {"mediaType": image.OCI_CONFIG, "digest": "sha256:" + "a" * 64, "size": 1}
    raw = json.dumps({"schemaVersion": 2, "config": descriptor, "layers": [], key: []}).encode()
    with pytest.raises(InvalidSpec, match="ambiguous"):
        image.read_manifest(raw)
