"""Who is in which slot: what must be remembered of it, and how members are put into slots. Pure."""

from collections.abc import Callable

import msgspec

from wherry.proxy.config import Pool, Slot

Change = tuple[Pool, int, Slot | None, Slot | None]
"""A slot of a pool, by number: what was in it, what is."""


class State(msgspec.Struct):
    """What a later wherryd must know."""

    pools: dict[str, Pool] = {}
    key: str = ""
    """From which sticky cookies are made."""
    loaded: str = ""
    """Which configuration HAProxy has read, but for the contents of slots."""
    bound: list[tuple[str, int]] = []
    """Where it listens."""


def arrange(
    pool: Pool, members: dict[str, tuple[str, int]], alive: Callable[[str], bool], changes: list[Change]
) -> None:
    """Put members into slots, of which more are made where there are too few.

    Args:
        pool: changed in place.
        members: container -> address and port of those that should get requests.
        alive: whether a container that should get none runs still: then it finishes what it has.
        changes: what changes is added here.
    """
    here = {slot.container: number for number, slot in enumerate(pool.slots) if slot is not None}
    for id_, number in here.items():
        slot = pool.slots[number]
        if slot is None:
            continue
        after: Slot | None = None
        if id_ in members:
            after = Slot(id_, *members[id_])
        elif alive(id_):
            # it is unhealthy, or about to stop: it finishes what it has
            after = Slot(id_, slot.address, slot.port, ready=False)
        if after != slot:
            changes.append((pool, number, slot, after))
            pool.slots[number] = after
    for id_ in members.keys() - here.keys():
        if None not in pool.slots:
            pool.slots += [None] * len(pool.slots)
        number = pool.slots.index(None)
        pool.slots[number] = Slot(id_, *members[id_])
        changes.append((pool, number, None, pool.slots[number]))
