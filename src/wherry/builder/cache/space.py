"""How much the builder's cache may take: what `builder.gc` of daemon.json says, and `builder prune`.

As BuildKit: nothing below `reserved` is ever taken away; what is above goes as far as `max_used` or `min_free` ask for
it, and, where neither is given, all of it.
"""

import os
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from wherry.errors import InvalidArgument
from wherry.values.sizes import ram_in_bytes

_LEAST = 1 << 30
_BUILDER_KEYS = {"gc", "allowed-hosts", "known-hosts"}
_KEYS = frozenset(
    "enabled defaultKeepStorage defaultReservedSpace defaultMaxUsedSpace defaultMinFreeSpace policy".split()
)
_RULE_KEYS = frozenset("all filter keepStorage reservedSpace maxUsedSpace minFreeSpace keepBytes".split())


class Space(Struct, frozen=True):
    """Bytes; 0 where nothing is said.

    Args:
        reserved: what may stay in any case.
        max_used: what all may take.
        min_free: what shall be free on the disk.
    """

    reserved: int = 0
    max_used: int = 0
    min_free: int = 0

    @property
    def limited(self) -> bool:
        """Whether anything is said."""
        return bool(self.reserved or self.max_used or self.min_free)

    def keep(self, used: int, free: int) -> int:
        """How many bytes of those that are used may stay, with so many free on the disk."""
        kept = self.max_used
        excess = self.min_free - free
        if excess > 0:
            kept = min(kept, used - excess) if kept else used - excess
        elif not kept and not self.reserved:
            kept = used
        return max(kept, self.reserved, 0)


class Rule(Struct, frozen=True):
    """One rule of collection.

    Args:
        space: what may stay; of nothing said, nothing stays that the filters name.
        filters: as `builder prune` has them.
        everything: also what an image has too.
    """

    space: Space = Space()
    filters: dict[str, list[str]] = field(default_factory=dict)
    everything: bool = False


def free_bytes(directory: str) -> int:
    """Bytes that are free where the cache lies."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def rules(builder: Mapping[str, Any], directory: str) -> list[Rule]:
    """The rules of daemon.json's `builder` key; a tenth of the disk where it says nothing.

    Returns:
        in their order; none where `gc.enabled` is false.

    Raises:
        InvalidArgument: a key that is not known, or a size that is none.
    """
    gc = builder.get("gc", {})
    unknown = sorted(set(builder) - _BUILDER_KEYS) or (sorted(set(gc) - _KEYS) if isinstance(gc, dict) else ["gc"])
    if unknown:
        raise InvalidArgument(f"daemon.json: builder: {unknown[0]} is not known, or not what it should be")
    if gc.get("enabled") is False:
        return []
    disk = os.statvfs(directory)
    total = disk.f_blocks * disk.f_frsize
    policy = gc.get("policy") or []
    if not isinstance(policy, list):
        raise InvalidArgument("daemon.json: builder.gc.policy is no list")
    reserved = _size(gc.get("defaultReservedSpace", gc.get("defaultKeepStorage")), total)
    space = Space(reserved, _size(gc.get("defaultMaxUsedSpace"), total), _size(gc.get("defaultMinFreeSpace"), total))
    if not policy:
        return [Rule(space if space.limited else Space(max(_LEAST, total // 10)))]
    return [_rule(rule, total) for rule in policy]


def _rule(rule: Any, total: int) -> Rule:
    if not isinstance(rule, dict) or set(rule) - _RULE_KEYS:
        unknown = sorted(set(rule) - _RULE_KEYS)[0] if isinstance(rule, dict) else "policy"
        raise InvalidArgument(f"daemon.json: builder.gc.policy: {unknown} is not known, or not what it should be")
    filters: dict[str, list[str]] = {}
    words = rule.get("filter") or []
    for word in words if isinstance(words, list) else [words]:
        name, equals, value = str(word).partition("=")
        if not equals:
            raise InvalidArgument(f"daemon.json: builder.gc.policy: invalid filter {word!r}")
        filters.setdefault(name, []).append(value)
    reserved = rule.get("reservedSpace", rule.get("keepStorage", rule.get("keepBytes")))
    sizes = (_size(reserved, total), _size(rule.get("maxUsedSpace"), total), _size(rule.get("minFreeSpace"), total))
    return Rule(Space(*sizes), filters, bool(rule.get("all")))


def _size(value: Any, total: int) -> int:
    text = str(value or "")
    if not text:
        return 0
    try:
        if text.endswith("%"):
            return total * int(text[:-1]) // 100
        return ram_in_bytes(text)
    except ValueError:
        raise InvalidArgument(f"daemon.json: invalid size {value!r}") from None
