"""From what a person typed to an image: by name, by id, by the beginning of an id. From memory."""

from wherry.errors import AmbiguousPrefix, ImageNotFound
from wherry.images.model import Image
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.oci.digest import Digest
from wherry.oci.reference import Reference, parse_any


def resolve(stores: Stores, name_or_id: str) -> Image:
    """Return the image that `name_or_id` means: a whole id, else a name, else an unambiguous beginning of an id.

    Raises:
        InvalidReference: it can be neither.
        ImageNotFound: `No such image: busybox:latest`.
        AmbiguousPrefix: several ids begin so.
    """
    return stores.image(resolve_id(stores, name_or_id))


def resolve_id(stores: Stores, name_or_id: str) -> str:
    """Return the id only; errors are those of `resolve`."""
    meant = parse_any(name_or_id)
    records = stores.records
    if isinstance(meant, Digest):
        if meant in records.by_id:
            return str(meant)
        raise ImageNotFound(f"No such image: {meant}", kind="image", ref=name_or_id)
    found = records.names.get(_key(meant))
    if found is not None:
        return found
    prefix = name_or_id.removeprefix("sha256:")
    if digests.is_hex(prefix):
        full = "sha256:" + prefix
        matches = [id_ for id_ in records.by_id if id_.startswith(full)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise AmbiguousPrefix(f"Multiple IDs found with provided prefix: {name_or_id}", prefix=prefix)
    raise ImageNotFound(f"No such image: {meant.with_default_tag().familiar()}", kind="image", ref=name_or_id)


def is_id_prefix(id_: str, text: str) -> bool:
    """Whether `text` is the beginning of image id `id_`, with or without the algorithm."""
    return id_.startswith(text) or id_.removeprefix("sha256:").startswith(text)


def _key(reference: Reference) -> str:
    # a name with a tag and a digest means the digest: what the tag points at may have changed
    if reference.digest:
        return str(reference.with_digest(reference.digest))
    return str(reference.with_default_tag())
