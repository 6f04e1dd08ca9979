"""An image as the rest of the engine sees it."""

from copy import copy

from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.reference import parse_normalized
from wherry.store.images import ImageRecord


class Image:
    """One stored image: its record, its config and the names that it has now.

    Args:
        record: what the database says of it.
        raw_config: the config's bytes, verified.
    """

    __slots__ = (
        "chain_ids",
        "config",
        "created",
        "diff_ids",
        "id",
        "layers",
        "manifest",
        "named_at",
        "names",
        "parent",
        "raw_config",
        "record",
        "repo_digests",
        "size",
    )

    def __init__(self, record: ImageRecord, raw_config: bytes) -> None:
        self.record = record
        self.raw_config = raw_config
        self.config = documents.read_config(raw_config)
        self.id = record.id
        self.manifest = record.manifest
        self.parent = record.parent
        self.diff_ids = list(self.config.rootfs.diff_ids)
        self.chain_ids = documents.chain_ids(self.diff_ids)
        self.size = record.unpacked
        self.created = self.config.created
        # directories of the unpacked layers, lowest first
        self.layers: list[str] = []
        self.names: list[str] = []
        self.repo_digests: list[str] = []
        self.named_at = 0

    def set_names(self, references: list[str], named_at: int) -> None:
        """Take the full references that point at the image now (`docker.io/library/busybox:latest`)."""
        self.names = []
        self.repo_digests = []
        for reference in sorted(references):
            parsed = parse_normalized(reference)
            (self.repo_digests if parsed.digest else self.names).append(parsed.familiar())
        self.named_at = named_at

    def shown_as(self, names: list[str]) -> "Image":
        """Return the same image with fewer names, for a listing."""
        shown = copy(self)
        shown.names = names
        return shown

    @property
    def short_id(self) -> str:
        """12 digits, as tables show them."""
        return Digest(self.id).short

    @property
    def dangling(self) -> bool:
        """Whether no name points at it."""
        return not self.names and not self.repo_digests

    def __repr__(self) -> str:
        return f"Image({self.short_id}, {self.names})"
