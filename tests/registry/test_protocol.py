"""The distribution specification as its clients meet it; the conformance suite asks for more of the same."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.registry.harness import INDEX, LAYER, MANIFEST, Registry, descriptor, digest_of, manifest_of
from wherry.registry.metadata.database import Database


def test_push_and_pull(registry: Registry) -> None:
    """An image comes back byte for byte, with its type, digest and size, by tag and by digest."""
    layer = os.urandom(300_000)
    digest = registry.push_image("team/app", "v1", layer)
    for reference in ("v1", digest):
        answer = registry("GET", f"/v2/team/app/manifests/{reference}")
        assert answer.status == 200
        assert digest_of(answer.body) == digest
        assert answer.headers["Content-Type"] == MANIFEST
        assert answer.headers["Docker-Content-Digest"] == digest
        head = registry("HEAD", f"/v2/team/app/manifests/{reference}")
        assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(answer.body)), b"")
    path = f"/v2/team/app/blobs/{digest_of(layer)}"
    assert registry("GET", path).body == layer
    head = registry("HEAD", path)
    assert head.headers["Content-Length"] == "300000"
    assert head.headers["Docker-Content-Digest"] == digest_of(layer)


def test_the_disk_holds_an_oci_layout(registry: Registry) -> None:
    """What lies on the disk is an OCI layout that says its tags."""
    layer = b"layer"
    digest = registry.push_image("team/app", "v1", layer)
    root = registry.root / "repositories/team+app"
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((root / "index.json").read_text())["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "v1"}
    assert (root / "blobs/sha256" / digest_of(layer).partition(":")[2]).read_bytes() == layer


def test_ranges(registry: Registry) -> None:
    """Ranges, small and large, from the front, the middle and the end."""
    data = os.urandom(200_000)
    path = f"/v2/r/blobs/{registry.push_blob('r', data)}"
    for text, want in (
        ("bytes=0-0", data[:1]),
        ("bytes=5-70004", data[5:70005]),
        ("bytes=199990-", data[199990:]),
        ("bytes=-10", data[-10:]),
        ("bytes=199990-999999999", data[199990:]),
    ):
        answer = registry("GET", path, headers={"Range": text})
        assert (answer.status, answer.body) == (206, want)
        assert answer.headers["Content-Range"].endswith("/200000")
    answer = registry("GET", path, headers={"Range": "bytes=200000-"})
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */200000")
    for text in ("bytes=0-1,5-6", "lines=1-2", "bytes=5-1", "bytes=x-y"):
        assert registry("GET", path, headers={"Range": text}).status == 200
    assert registry("GET", path, headers={"Range": "bytes=0-1", "If-Range": '"else"'}).status == 200


def test_etags(registry: Registry) -> None:
    """What a client has already is not sent again."""
    digest = registry.push_image("r", "v1", b"layer")
    for path in ("/v2/r/manifests/v1", f"/v2/r/blobs/{digest_of(b'layer')}"):
        tag = registry("GET", path).headers["ETag"]
        answer = registry("GET", path, headers={"If-None-Match": f'"x", {tag}'})
        assert (answer.status, answer.body) == (304, b"")
        assert registry("GET", path, headers={"If-None-Match": '"x"'}).status == 200
    assert digest in registry("GET", "/v2/r/manifests/v1").headers["ETag"]


def test_sha512(registry: Registry) -> None:
    """Blobs and manifests of sha512 are served as such."""
    config, layer = b"{}", os.urandom(1000)
    registry.push_blob("r", config)
    digest = registry.push_blob("r", layer, "sha512")
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config),
            "layers": [{"mediaType": LAYER, "digest": digest, "size": 1000}],
        }
    ).encode()
    of = digest_of(raw, "sha512")
    answer = registry.push_manifest("r", of, raw)
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, of)
    assert registry("GET", f"/v2/r/manifests/{of}").body == raw


def test_tags_in_pages(registry: Registry) -> None:
    """Tags come sorted, in pages that link to the next."""
    registry.push_image("r", "m", b"layer")
    raw = registry("GET", "/v2/r/manifests/m").body
    for tag in ("b", "a", "A", "c"):
        registry.push_manifest("r", tag, raw)
    assert registry("GET", "/v2/r/tags/list").json == {"name": "r", "tags": ["A", "a", "b", "c", "m"]}
    seen, path = [], "/v2/r/tags/list?n=2"
    while path:
        answer = registry("GET", path)
        seen.append(answer.json["tags"])
        path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert seen == [["A", "a"], ["b", "c"], ["m"]]
    assert registry("GET", "/v2/r/tags/list?n=0").json["tags"] == []
    assert registry("GET", "/v2/r/tags/list?last=b").json["tags"] == ["c", "m"]
    assert registry("GET", "/v2/none/tags/list").code == "NAME_UNKNOWN"


def test_referrers(registry: Registry) -> None:
    """Referrers are listed with type and annotations, filtered, before and after their subject is there."""
    subject = {"mediaType": MANIFEST, "digest": digest_of(b"not there"), "size": 9}
    config, layer = b"{}", b"sbom"
    for data in (config, layer):
        registry.push_blob("r", data)
    raws = []
    for kind in ("a/sbom", "a/signature"):
        raw = manifest_of(config, layer, subject=subject, artifactType=kind, annotations={"k": kind})
        answer = registry.push_manifest("r", digest_of(raw), raw)
        assert answer.headers["OCI-Subject"] == subject["digest"]
        raws.append(raw)
    answer = registry("GET", f"/v2/r/referrers/{subject['digest']}")
    assert answer.headers["Content-Type"] == INDEX
    assert [item["digest"] for item in answer.json["manifests"]] == [digest_of(raw) for raw in raws]
    assert answer.json["manifests"][0]["annotations"] == {"k": "a/sbom"}
    answer = registry("GET", f"/v2/r/referrers/{subject['digest']}?artifactType=a/signature")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [item["artifactType"] for item in answer.json["manifests"]] == ["a/signature"]
    registry("DELETE", f"/v2/r/manifests/{digest_of(raws[0])}")
    assert len(registry("GET", f"/v2/r/referrers/{subject['digest']}").json["manifests"]) == 1
    assert registry("GET", f"/v2/none/referrers/{subject['digest']}").json["manifests"] == []
    assert registry("GET", "/v2/r/referrers/nonsense").status == 400


def test_referrers_in_pages(registry: Registry) -> None:
    """A list of referrers that is larger than a manifest may be comes in pages that are complete."""
    subject = {"mediaType": MANIFEST, "digest": digest_of(b"subject"), "size": 7}
    registry.push_blob("r", b"{}")
    want = set()
    for number in range(5):
        raw = manifest_of(b"{}", subject=subject, annotations={"n": f"{number}" * 1_500_000})
        assert registry.push_manifest("r", digest_of(raw), raw).status == 201
        want.add(digest_of(raw))
    got, path, pages = [], f"/v2/r/referrers/{subject['digest']}", 0
    while path:
        answer = registry("GET", path)
        assert len(answer.body) <= 4 << 20
        got += [item["digest"] for item in answer.json["manifests"]]
        path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
        pages += 1
    assert (set(got), len(got), pages) == (want, 5, 3)


def test_deletion(registry: Registry) -> None:
    """A tag goes alone, a manifest with its tags, a blob only when nothing needs it."""
    digest = registry.push_image("r", "one", b"layer")
    raw = registry("GET", "/v2/r/manifests/one").body
    registry.push_manifest("r", "two", raw)
    blob = f"/v2/r/blobs/{digest_of(b'layer')}"
    assert registry("DELETE", "/v2/r/manifests/one").status == 202
    assert registry("GET", "/v2/r/manifests/one").code == "MANIFEST_UNKNOWN"
    assert registry("GET", f"/v2/r/manifests/{digest}").status == 200
    assert registry("DELETE", blob).status == 405
    assert registry("DELETE", f"/v2/r/manifests/{digest}").status == 202
    for reference in ("two", digest):
        assert registry("GET", f"/v2/r/manifests/{reference}").status == 404
    assert registry("DELETE", f"/v2/r/manifests/{digest}").status == 404
    assert registry("DELETE", blob).status == 202
    assert registry("GET", blob).code == "BLOB_UNKNOWN"


def test_mount(registry: Registry) -> None:
    """A blob is mounted where its source is named, found where it is not, and uploaded where there is none."""
    digest = registry.push_blob("source", b"shared")
    answer = registry("POST", f"/v2/target/blobs/uploads/?mount={digest}&from=source")
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/target/blobs/{digest}")
    assert registry("POST", f"/v2/third/blobs/uploads/?mount={digest}").status == 201
    files = [registry.root / f"repositories/{name}/blobs/sha256/{digest[7:]}" for name in ("source", "target", "third")]
    assert len({path.stat().st_ino for path in files}) == 1
    assert registry("POST", f"/v2/t/blobs/uploads/?mount={digest_of(b'?')}&from=source").status == 202


def test_the_same_blob_is_stored_once(registry: Registry) -> None:
    """Two repositories that were pushed the same blob share its bytes."""
    digest = registry.push_blob("a", b"same")
    registry.push_blob("b", b"same")
    assert (registry.root / f"repositories/a/blobs/sha256/{digest[7:]}").stat().st_nlink == 2


def test_catalog(registry: Registry) -> None:
    """Repositories come sorted, in pages."""
    for name in ("c", "a/b", "b"):
        registry.push_blob(name, b"x")
    assert registry("GET", "/v2/_catalog").json == {"repositories": ["a/b", "b", "c"]}
    answer = registry("GET", "/v2/_catalog?n=2")
    assert answer.json["repositories"] == ["a/b", "b"]
    following = registry("GET", answer.headers["Link"].partition(">")[0].removeprefix("<"))
    assert following.json["repositories"] == ["c"]


def test_uploads_go_on_over_a_restart(start_registry: Callable[..., Registry], tmp_path: Path) -> None:
    """A session survives the server: offset and hash are found again from what lies on the disk."""
    data = os.urandom(300_000)
    first = start_registry(tmp_path / "root")
    location = first.start("r")
    answer = first("PATCH", location, data[:100_000], {"Content-Range": "0-99999"})
    assert (answer.status, answer.headers["Range"]) == (202, "0-99999")
    second = start_registry(tmp_path / "root")
    answer = second("GET", location)
    assert (answer.status, answer.headers["Range"]) == (204, "0-99999")
    answer = second("PATCH", location, data[100_000:200_000], {"Content-Range": "100000-199999"})
    assert answer.status == 202
    answer = first("PUT", f"{location}?digest={digest_of(data)}", data[200_000:])
    assert answer.status == 201
    assert second("GET", f"/v2/r/blobs/{digest_of(data)}").body == data


def test_what_other_tools_wrote_is_served(start_registry: Callable[..., Registry], tmp_path: Path) -> None:
    """A layout that lost its metadata, or came from elsewhere, is served after `reindex`, nested manifests too."""
    first = start_registry(tmp_path / "root")
    registry_digest = first.push_image("r", "v1", b"layer", subject=descriptor(b"s", MANIFEST))
    raw = first("GET", "/v2/r/manifests/v1").body
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(raw, MANIFEST)]}).encode()
    assert first.push_manifest("r", "multi", index, INDEX).status == 201
    # only the outermost, as other tools list it
    layout = tmp_path / "root/repositories/r/index.json"
    document = json.loads(layout.read_text())
    document["manifests"] = [item for item in document["manifests"] if item["digest"] != registry_digest]
    layout.write_text(json.dumps(document))
    first.service.database.close()
    for path in (tmp_path / "root").glob("metadata.db*"):
        path.unlink()
    Database(first.service.settings.database_url).close()
    done = subprocess.run(
        [*_command(), "reindex", "--root", str(tmp_path / "root")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1 repositories\n"), done.stderr
    second = start_registry(tmp_path / "root")
    assert second("GET", f"/v2/r/manifests/{registry_digest}").body == raw
    assert len(second("GET", f"/v2/r/referrers/{digest_of(b's')}").json["manifests"]) == 1
    assert second("GET", "/v2/_catalog").json == {"repositories": ["r"]}


def test_a_lost_database_is_filled_at_the_start(start_registry: Callable[..., Registry], tmp_path: Path) -> None:
    """Without the database, or with a broken one, a server begins with what the disk says."""
    first = start_registry(tmp_path / "root")
    first.push_image("r", "v1", b"layer", subject=descriptor(b"s", MANIFEST))
    first.service.database.close()
    for path in (tmp_path / "root").glob("metadata.db*"):
        path.unlink()
    (tmp_path / "root/metadata.db").write_bytes(b"this is not a database" * 1000)
    second = start_registry(tmp_path / "root")
    assert second("GET", "/v2/_catalog").json == {"repositories": ["r"]}
    assert len(second("GET", f"/v2/r/referrers/{digest_of(b's')}").json["manifests"]) == 1


def test_check_finds_what_is_wrong(registry: Registry) -> None:
    """`check` is content with what is well, and names a blob that rotted and one that is gone."""
    registry.push_image("r", "v1", b"first", b"second")
    command = [*_command(), "check", "--root", str(registry.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no problems" in done.stdout
    blobs = registry.root / "repositories/r/blobs/sha256"
    (blobs / digest_of(b"first")[7:]).write_bytes(b"firsT")
    (blobs / digest_of(b"second")[7:]).unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{digest_of(b'first')} has the content of {digest_of(b'firsT')}" in done.stderr
    assert f"needs {digest_of(b'second')}, which is missing" in done.stderr


def test_memory_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of it works over the memory driver too; its metadata go with it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    registry = Registry(tmp_path / "registry", storage={"driver": "memory"})
    layer = os.urandom(200_000)
    registry.push_image("r", "v1", layer)
    assert registry("GET", f"/v2/r/blobs/{digest_of(layer)}").body == layer
    assert registry("DELETE", "/v2/r/manifests/v1").status == 202
    assert len(os.listdir(tmp_path)) == 1
    registry.close()
    assert not os.listdir(tmp_path)


def test_observability(registry: Registry) -> None:
    """Health, metrics, and the request's id in the answer."""
    assert registry("GET", "/healthz").json == {"status": "ok"}
    assert registry("GET", "/v2/", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    assert registry("GET", "/v2/", headers={"X-Request-Id": 'a b"c'}).headers["X-Request-Id"] != 'a b"c'
    registry.push_image("r", "v1", b"layer")
    text = registry("GET", "/metrics").body.decode()
    assert 'wherry_registry_requests_total{method="PUT",route="manifests",status="201"} 1.0' in text
    assert 'le="+Inf"' in text


@pytest.mark.parametrize("setting", ["read_only", "delete"])
def test_what_is_switched_off(start_registry: Callable[..., Registry], setting: str) -> None:
    """A read-only registry takes nothing; one without deletion deletes nothing."""
    registry = start_registry(**({"read_only": True} if setting == "read_only" else {"delete": False}))
    pushed = registry("POST", "/v2/r/blobs/uploads/")
    assert pushed.status == (405 if setting == "read_only" else 202)
    assert registry("DELETE", f"/v2/r/manifests/{digest_of(b'')}").status == 405


def _command() -> list[str]:
    import sys

    return [sys.executable, "-m", "wherry.registry"]
