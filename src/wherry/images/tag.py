"""Give an image one more name."""

from wherry.errors import InvalidReference
from wherry.images.resolve import is_id_prefix, resolve_id
from wherry.images.stores import Stores
from wherry.oci.reference import Reference, parse_normalized
from wherry.store.images import IndexRecord


def target(repo: str, tag: str = "") -> Reference:
    """Return the name that `repo` and `tag` of a request mean; without any tag it is `latest`.

    Raises:
        InvalidReference: it is none, or one with a digest, which only a registry gives.
    """
    reference = parse_normalized(repo)
    if reference.digest:
        raise InvalidReference("cannot import digest reference")
    reference = reference.with_tag(tag) if tag else reference.with_default_tag()
    if reference.familiar_name() == "sha256":
        raise InvalidReference("refusing to create an ambiguous tag using digest algorithm as name")
    return reference


async def tag(stores: Stores, source: str, repo: str, tag_: str = "") -> Reference:
    """Let `repo:tag` point at image `source`; what had the name before loses it. Returns the name.

    Raises:
        ImageNotFound, AmbiguousPrefix: there is no such source.
        InvalidReference: as `target`.
    """
    reference = target(repo, tag_)
    async with stores.changing:
        id_ = resolve_id(stores, source)
        await stores.records.put(stores.records.by_id[id_], [str(reference)], _index(stores, source, id_))
    return reference


def _index(stores: Stores, source: str, id_: str) -> IndexRecord | None:
    """The index that the source stands for: its name's own, or, of an id, the only one of its names."""
    indexes = stores.records.indexes
    if not is_id_prefix(id_, source):
        name = parse_normalized(source)
        named = name.with_digest(name.digest) if name.digest else name.with_default_tag()
        return indexes.get(str(named))
    found = {index.digest: index for name_ in stores.records.names_of(id_) if (index := indexes.get(name_))}
    return next(iter(found.values())) if len(found) == 1 else None
