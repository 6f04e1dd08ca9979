"""Give an image one more name."""

from wherry.errors import InvalidReference
from wherry.images.resolve import resolve_id
from wherry.images.stores import Stores
from wherry.oci.reference import Reference, parse_normalized


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
        await stores.records.put(stores.records.by_id[id_], [str(reference)])
    return reference
