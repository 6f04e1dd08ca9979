"""Exported build caches, as the tests look into them and spoil them."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Layout:
    """A cache in a directory: an OCI layout with one manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def blob(self, digest: str) -> Path:
        """Where a blob lies."""
        return self.path / "blobs/sha256" / digest.partition(":")[2]

    @property
    def manifest(self) -> Json:
        """The manifest that the index names."""
        index = json.loads((self.path / "index.json").read_bytes())
        found: Json = json.loads(self.blob(index["manifests"][0]["digest"]).read_bytes())
        return found

    @property
    def config(self) -> Json:
        """What the cache says of itself."""
        found: Json = json.loads(self.blob(self.manifest["config"]["digest"]).read_bytes())
        return found

    def put(self, data: bytes) -> Json:
        """Write a blob; returns its digest and size."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blob(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def change(self, config: Json, manifest: Json) -> None:
        """Make the index name these."""
        manifest["config"] |= self.put(json.dumps(config).encode())
        index = json.loads((self.path / "index.json").read_bytes())
        index["manifests"][0] |= self.put(json.dumps(manifest).encode())
        (self.path / "index.json").write_text(json.dumps(index))

    def layer_of(self, description: str) -> str:
        """The blob of the step that is called so."""
        record = next(one for one in self.config["records"] if description in one["description"])
        found: str = self.manifest["layers"][record["layer"]]["digest"]
        return found


def tar_gz(data: bytes) -> tuple[bytes, str]:
    """An archive compressed, and its diff id."""
    return gzip.compress(data), f"sha256:{hashlib.sha256(data).hexdigest()}"
