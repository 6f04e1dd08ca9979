"""Take names and images away, by Docker's rules and in its words; collect what nothing needs any more."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from wherry.errors import ImageInUse, KernelError, WherryError
from wherry.images.compare import archive_digest
from wherry.images.resolve import is_id_prefix, resolve_id
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.oci.digest import Digest
from wherry.oci.reference import Reference, parse_normalized
from wherry.store.images import ImageRecord

# (container id, whether it runs) of every container that was made from an image id
InUse = Callable[[str], Iterable[tuple[str, bool]]]

_log = logging.getLogger(__name__)


async def remove(
    stores: Stores, name_or_id: str, *, in_use: InUse, force: bool = False, prune: bool = True
) -> list[dict[str, str]]:
    """Remove a name; and the image too, if that was its last one. By id: all names of one repository, and the image.

    Layers that no other image and no container needs go with it; dangling parents too, with `prune`.

    Returns:
        `{"Untagged": name}` and `{"Deleted": digest}`, in the order in which it happened.

    Raises:
        ImageNotFound, AmbiguousPrefix, InvalidReference: as `resolve`.
        ImageInUse: a container or another name needs it, `force` or not: Docker's `conflict: …`.
    """
    async with stores.changing:
        return await _remove(stores, name_or_id, in_use, force, prune)


async def _remove(stores: Stores, given: str, in_use: InUse, force: bool, prune: bool) -> list[dict[str, str]]:
    records = stores.records
    id_ = resolve_id(stores, given)
    names = sorted(records.names_of(id_))
    report: list[dict[str, str]] = []
    by_name = not is_id_prefix(id_, given)
    if by_name:
        if not force and _is_single(names):
            for container, _ in in_use(id_):
                raise ImageInUse(
                    f'conflict: unable to remove repository reference "{given}" (must force) - '
                    f"container {container[:12]} is using its referenced image {Digest(id_).short}"
                )
        gone = _with_digests_of(_given_name(given), names)
        held = _held(stores, gone)
        await records.drop(gone)
        _take_away(stores, held - stores.needed_blobs())
        report += [{"Untagged": parse_normalized(name).familiar()} for name in gone]
        if records.names_of(id_):
            return report
        if _conflict(stores, id_, in_use, force, ignore_names=True):
            # a container still runs on it, or an image was built from it: it stays, without a name
            return report
    else:
        conflict = _conflict(stores, id_, in_use, force, ignore_names=_is_single(names))
        if conflict:
            raise ImageInUse(conflict)
        report += [{"Untagged": parse_normalized(name).familiar()} for name in names]
    return report + await _delete(stores, id_, in_use, prune)


async def prune(stores: Stores, ids: Iterable[str], *, in_use: InUse) -> tuple[list[dict[str, str]], int]:
    """Remove images by id, leaving those that anything still needs.

    Returns:
        the report, as `remove`, and the bytes that were freed.
    """
    report: list[dict[str, str]] = []
    freed = 0
    async with stores.changing:
        for id_ in ids:
            if id_ not in stores.records.by_id or any(True for _ in in_use(id_)):
                continue
            names = sorted(stores.records.names_of(id_))
            if _conflict(stores, id_, in_use, force=True, ignore_names=True):
                continue
            needed_before = stores.needed_layers()
            layers = dict(zip(*_chain(stores, id_), strict=True))
            report += [{"Untagged": parse_normalized(name).familiar()} for name in names]
            report += await _delete(stores, id_, in_use, prune=True)
            freed += sum(layers.get(chain, 0) for chain in needed_before - stores.needed_layers())
    return report, freed


async def collect(stores: Stores) -> int:
    """Remove snapshots and blobs that no image, container, lease or running load needs. Returns how many went.

    Only when every container of the data root is known to `layers_in_use`.
    """
    async with stores.changing:
        if not await stores.database.settle():
            return 0
        await stores.leases.expire()
        blobs = [digest for digest, _ in await asyncio.to_thread(lambda: list(stores.blobs.walk()))]
        snapshots = await asyncio.to_thread(lambda: list(stores.overlay.walk()))
        # asked after the walk and acted upon without an await between: nothing can begin to need one in the meantime
        needed = stores.needed_blobs()
        count = sum(stores.blobs.remove(digest) for digest in blobs if digest not in needed)
        layers = stores.needed_layers()
        for chain_id in snapshots:
            if chain_id not in layers:
                stores.overlay.remove(chain_id)
                count += 1
        return count


def _conflict(stores: Stores, id_: str, in_use: InUse, force: bool, ignore_names: bool) -> str | None:
    short = Digest(id_).short
    if any(record.parent == id_ for record in stores.records.by_id.values()):
        return f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images"
    stopped = None
    for container, running in in_use(id_):
        if running:
            return (
                f"conflict: unable to delete {short} (cannot be forced) - "
                f"image is being used by running container {container[:12]}"
            )
        stopped = stopped or container
    if force:
        return None
    if not ignore_names and stores.records.names_of(id_):
        return f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    if stopped:
        return (
            f"conflict: unable to delete {short} (must be forced) - "
            f"image is being used by stopped container {stopped[:12]}"
        )
    return None


async def _delete(stores: Stores, id_: str, in_use: InUse, prune: bool) -> list[dict[str, str]]:
    record = stores.records.by_id[id_]
    held = record.blobs | _held(stores, stores.records.names_of(id_))
    await _describe_orphans(stores, record)
    await stores.records.drop((), [id_])
    stores.forget(id_)
    report = [{"Deleted": id_}]
    # the record is gone, durably: what a crash or a full disk leaves from here on is collected at the next start
    needed_layers = stores.needed_layers()
    gone = [
        chain_id
        for chain_id in reversed(record.chain_ids)
        if chain_id not in needed_layers and stores.overlay.exists(chain_id)
    ]
    report += [{"Deleted": chain_id} for chain_id in gone]
    _take_away(stores, held - stores.needed_blobs(), gone)
    parent = record.parent
    if not prune or parent not in stores.records.by_id or stores.records.names_of(parent):
        return report
    if not _conflict(stores, parent, in_use, force=False, ignore_names=True):
        report += await _delete(stores, parent, in_use, prune)
    return report


def _take_away(stores: Stores, blobs: Iterable[str], layers: Iterable[str] = ()) -> None:
    """Remove what nothing needs. What cannot be (the disk is full) waits for collection: the names are gone already."""
    for kind, ids in (("layer", layers), ("blob", blobs)):
        for id_ in ids:
            try:
                if kind == "layer":
                    stores.overlay.remove(id_)
                else:
                    stores.blobs.remove(digests.parse(id_))
            except KernelError as error:
                _log.warning("a %s of a removed image stays until the next start: %s", kind, error)


async def _describe_orphans(stores: Stores, record: ImageRecord) -> None:
    """Of layers that only containers will stand on write down what `check` compares them with: their blobs go."""
    standing = set(record.chain_ids) & set(stores.layers_in_use())
    if not standing:
        return
    for other in stores.records.by_id.values():
        standing.difference_update(other.chain_ids if other is not record else ())
    for holder in stores.holders:
        standing.difference_update(chain_id for chain_id, _, _ in holder.layers())
    for chain_id in standing:
        try:
            digest = await archive_digest(stores, chain_id)
            await asyncio.to_thread(stores.overlay.record_tree, chain_id, digest)
        except WherryError as error:
            # removing must be possible on a full disk, and with a damaged layer
            _log.warning("layer %s of a removed image cannot be checked later: %s", chain_id, error)


def _held(stores: Stores, names: Iterable[str]) -> set[str]:
    """Blobs of the indexes that names stand for."""
    indexes = stores.records.indexes
    return {blob for name in names if name in indexes for blob in indexes[name].blobs}


def _chain(stores: Stores, id_: str) -> tuple[list[str], list[int]]:
    record = stores.records.by_id[id_]
    return record.chain_ids, [layer.unpacked for layer in record.layers]


def _given_name(given: str) -> Reference:
    reference = parse_normalized(given)
    return reference.with_digest(reference.digest) if reference.digest else reference.with_default_tag()


def _with_digests_of(reference: Reference, names: list[str]) -> list[str]:
    """The name, and the digests of its repository if no other tag of that is left."""
    gone = [str(reference)]
    if reference.digest:
        return gone
    same = [parsed for name in names if (parsed := parse_normalized(name)).name == reference.name]
    if any(parsed.tag and parsed.tag != reference.tag for parsed in same):
        return gone
    return gone + [str(parsed) for parsed in same if parsed.digest]


def _is_single(names: list[str]) -> bool:
    """Whether there is at most one tag, and all names are of one repository."""
    parsed = [parse_normalized(name) for name in names]
    return sum(1 for name in parsed if name.tag) <= 1 and len({name.name for name in parsed}) <= 1
