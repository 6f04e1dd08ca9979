"""`images`: which of the stored ones a listing shows, and by which names."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wherry.errors import InvalidArgument, NotFound, StoreError
from wherry.images.model import Image
from wherry.images.resolve import resolve
from wherry.images.stores import Stores
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.patterns import globs
from wherry.values import times

_log = logging.getLogger(__name__)

Filters = Mapping[str, Sequence[str]]

_TRUE = frozenset(("1", "true"))
_FALSE = frozenset(("0", "false"))


def select(stores: Stores, filters: Filters | None = None, *, everything: bool = False) -> list[Image]:
    """Return the images that a listing shows, newest first.

    Args:
        filters: `dangling`, `label`, `before`, `since`, `until`, `reference`; several values of one are alternatives,
            but for labels, all of which an image must have.
        everything: also images that only other images were built from.

    Raises:
        InvalidArgument: Docker's words for a filter that does not exist or a value that is none.
        ImageNotFound: `before` or `since` names no image.
    """
    filters = {key: values for key, values in (filters or {}).items() if values}
    images = _readable(stores)
    parents = {image.parent for image in images}
    for key, values in filters.items():
        keep = _filter(stores, key, values)
        images = [image for image in images if keep(image)]
    if not everything and "dangling" not in filters:
        images = [image for image in images if not image.dangling or image.id not in parents]
    if patterns := [globs.component(value) for value in filters.get("reference", ())]:
        # of an image with several names only those that were asked for are shown
        images = [image.shown_as([name for name in image.names if _matches(name, patterns)]) for image in images]
    return sorted(images, key=lambda image: (-times.seconds(image.created), image.id))


def _readable(stores: Stores) -> list[Image]:
    """All images but those whose config is damaged: one bad blob does not hide the others (`system check` mends it)."""
    images = []
    for id_ in stores.records.by_id:
        try:
            images.append(stores.image(id_))
        except (StoreError, NotFound) as error:
            _log.warning("image %s cannot be shown: %s", Digest(id_).short, error)
    return images


def prunable(stores: Stores, filters: Filters | None = None) -> list[str]:
    """Return the ids that a prune looks at: dangling images, with `dangling=false` all; narrowed by label and until.

    Raises:
        InvalidArgument: another filter, or a value that is none.
    """
    filters = {key: values for key, values in (filters or {}).items() if values}
    for key in filters:
        if key not in ("dangling", "label", "label!", "until"):
            raise InvalidArgument(f"invalid filter '{key}'")
    dangling = filters.pop("dangling", ["true"])
    refused = filters.pop("label!", [])
    everything = not _truth("dangling", dangling)
    images = select(stores, filters if everything else {**filters, "dangling": ["true"]}, everything=True)
    unwanted = [_label(stores, [label]) for label in refused]
    return [image.id for image in images if not any(keep(image) for keep in unwanted)]


def shared_sizes(stores: Stores) -> dict[str, int]:
    """Return, by image id, the bytes of its layers that other images have too, each layer once."""
    records = stores.records.by_id.values()
    users = Counter(chain_id for record in records for chain_id in set(record.chain_ids))
    return {
        record.id: sum(
            layer.unpacked
            for chain_id, layer in dict(zip(record.chain_ids, record.layers, strict=True)).items()
            if users[chain_id] > 1
        )
        for record in records
    }


def manifest_entry(stores: Stores, image: Image) -> dict[str, Any]:
    """Return Docker's `ImageManifestSummary` of an image, without its containers. Reads a blob: for a thread."""
    digest = Digest(image.manifest)
    manifest = documents.read_manifest(stores.blobs.read(digest, documents.MANIFEST_LIMIT))
    size = stores.blobs.size(digest)
    content = size + manifest.config.size + sum(layer.size for layer in image.record.layers)
    platform = {"architecture": image.config.architecture, "os": image.config.os}
    if image.config.variant:
        platform["variant"] = image.config.variant
    return {
        "ID": image.manifest,
        "Descriptor": {
            "mediaType": manifest.media_type or documents.OCI_MANIFEST,
            "digest": image.manifest,
            "size": size,
        },
        "Available": True,
        "Size": {"Content": content, "Total": content + image.size},
        "Kind": "image",
        "ImageData": {"Platform": platform, "Containers": [], "Size": {"Unpacked": image.size}},
    }


# -- filters


def _filter(stores: Stores, key: str, values: Sequence[str]) -> Callable[[Image], bool]:
    make = _FILTERS.get(key)
    if make is None:
        raise InvalidArgument(f"invalid filter '{key}'")
    return make(stores, values)


def _dangling(_: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    wanted = _truth("dangling", values)
    return lambda image: image.dangling is wanted


def _truth(key: str, values: Sequence[str]) -> bool:
    """Read a filter of truth values as dockerd does: other words beside one that is none are passed over."""
    true, false = not _TRUE.isdisjoint(values), not _FALSE.isdisjoint(values)
    if true is false:
        raise InvalidArgument(f"invalid filter '{key}=[{' '.join(values)}]'")
    return true


def _label(_: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    def keep(image: Image) -> bool:
        labels = image.config.config.labels or {}
        for value in values:
            key, equals, wanted = value.partition("=")
            if key not in labels or (equals and labels[key] != wanted):
                return False
        return True

    return keep


def _before(stores: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    limit = min(_created(resolve(stores, value)) for value in values)
    return lambda image: _created(image) < limit


def _since(stores: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    limit = max(_created(resolve(stores, value)) for value in values)
    return lambda image: _created(image) > limit


def _until(_: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    limits = []
    for value in values:
        try:
            limits.append(times.parse_filter(value, time.time_ns()))
        except ValueError:
            raise InvalidArgument(f'failed to parse value as time or duration: "{value}"') from None
    return lambda image: _created(image) < min(limits)


def _reference(_: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    patterns = [globs.component(value) for value in values]
    return lambda image: any(_matches(name, patterns) for name in (*image.names, *image.repo_digests))


def _created(image: Image) -> int:
    try:
        return times.parse(image.created)
    except ValueError:
        return 0


def _matches(name: str, patterns: Sequence[Callable[[str], bool]]) -> bool:
    """Whether a familiar name, or its repository, fits one of the patterns."""
    # by text: a repository of 64 hex digits has a familiar form that is no name
    whole = name.partition("@")[0]
    colon = whole.find(":", whole.rfind("/") + 1)
    repository = whole if colon < 0 else whole[:colon]
    return any(pattern(name) or pattern(repository) for pattern in patterns)


_FILTERS: dict[str, Callable[[Stores, Sequence[str]], Callable[[Image], bool]]] = {
    "dangling": _dangling,
    "label": _label,
    "before": _before,
    "since": _since,
    "until": _until,
    "reference": _reference,
}
