"""A few instructions before libseccomp's program, for what libseccomp cannot say.

- A call newer than the profile gets ENOSYS, not the default EPERM: programs try a new call and fall back when it is
  not there; EPERM they believe. libseccomp knows only the calls of its own release.
- A newer call that the profile allows and libseccomp has no number for is allowed. From 424 on a number means the same
  call on every architecture.
- A rule that refuses some arguments of a call that is otherwise allowed: libseccomp drops it for the allowance.

Before a call's number is decided nothing but number and architecture is read: for calls without such a rule the kernel
can then compute the answer once and need not run the program.
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# what came after Linux 5.17, the last that libseccomp 2.5 knows (450)
NEWER = {
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
X32_BIT = 0x40000000
ENOSYS_ACTION = 0x00050000 | 38

_LOAD, _JUMP, _EQUAL, _GREATER, _AND, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x54, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16


class Refusal:
    """Answer `action` to call `number` when every `(argument, mask, value)` fits: `argument & mask == value`."""

    __slots__ = ("action", "comparisons", "number")

    def __init__(self, number: int, action: int, comparisons: "Sequence[tuple[int, int, int]]") -> None:
        self.number = number
        self.action = action
        self.comparisons = tuple(comparisons)


class Architecture:
    """What the stub does for one architecture.

    Args:
        audit: AUDIT_ARCH_* value.
        refusals: looked at first.
        newer: number -> action, for calls that libseccomp does not know.
        highest: highest number that the profile knows; above it is ENOSYS. None: no such limit.
        offset: what is added to every number (the x32 bit).
    """

    __slots__ = ("audit", "highest", "newer", "offset", "refusals")

    def __init__(
        self, audit: int, refusals: "Sequence[Refusal]", newer: "dict[int, int]", highest: "int | None", offset: int = 0
    ) -> None:
        self.audit = audit
        self.refusals = list(refusals)
        self.newer = newer
        self.highest = highest
        self.offset = offset


def assemble(architectures: "Sequence[Architecture]", *, little_endian: bool = True) -> bytes:
    """The stub as a program that falls off its end where it has no answer.

    Args:
        architectures: several for one `audit` are told apart by the x32 bit.
        little_endian: how the machine lays out 64-bit arguments.
    """
    code: list[tuple[int, int, int, int]] = []
    blocks = [(each, _block(each, little_endian=little_endian)) for each in architectures]
    remaining = sum(len(block) + 2 for _, block in blocks)
    if not blocks:
        return b""
    code.append((_LOAD, 0, 0, _ARCHITECTURE_AT))
    for place, (architecture, block) in enumerate(blocks):
        remaining -= len(block) + 2
        code.append((_EQUAL, 1, 0, architecture.audit))
        code.append((_JUMP, 0, 0, len(block)))
        code += block
        # x86_64 and x32 share an audit value: a block that had no answer goes on to the next one, which needs it again
        shared = any(later.audit == architecture.audit for later, _ in blocks[place + 1 :])
        code[-1] = (_LOAD, 0, 0, _ARCHITECTURE_AT) if shared else (_JUMP, 0, 0, remaining)
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def _block(architecture: Architecture, *, little_endian: bool) -> "list[tuple[int, int, int, int]]":
    """One architecture's answers; the last instruction is a place for the way out."""
    body: list[tuple[int, int, int, int]] = []
    for number, action in sorted(architecture.newer.items()):
        body += [(_EQUAL, 0, 1, architecture.offset + number), (_RETURN, 0, 0, action)]
    if architecture.highest is not None:
        body += [(_GREATER, 0, 1, architecture.offset + architecture.highest), (_RETURN, 0, 0, ENOSYS_ACTION)]
    checks: list[tuple[int, int, int, int]] = []
    for refusal in architecture.refusals:
        check = _refusal(refusal, little_endian=little_endian)
        checks += [(_EQUAL, 0, len(check), architecture.offset + refusal.number), *check]
    inside = [*checks, *body]
    if architecture.offset:
        head = [(_LOAD, 0, 0, _NUMBER_AT), (_GREATER, 1, 0, X32_BIT - 1), (_JUMP, 0, 0, len(inside))]
    else:
        # a set x32 bit is for the other block, or for libseccomp to refuse
        head = [(_LOAD, 0, 0, _NUMBER_AT), (_GREATER, 0, 1, X32_BIT - 1), (_JUMP, 0, 0, len(inside))]
    return [*head, *inside, (_JUMP, 0, 0, 0)]


def _refusal(refusal: Refusal, *, little_endian: bool) -> "list[tuple[int, int, int, int]]":
    """Compare word by word; where one differs, take the number back and go on after the refusal."""
    words: list[tuple[int, int, int]] = []
    for index, mask, value in refusal.comparisons:
        low = _ARGUMENTS_AT + 8 * index + (0 if little_endian else 4)
        high = _ARGUMENTS_AT + 8 * index + (4 if little_endian else 0)
        if mask & 0xFFFFFFFF:
            words.append((low, mask & 0xFFFFFFFF, value & 0xFFFFFFFF))
        if mask >> 32:
            words.append((high, mask >> 32, value >> 32))
    code: list[tuple[int, int, int, int]] = []
    for place, (at, mask, value) in enumerate(words):
        after = 3 * (len(words) - place - 1)
        code += [(_LOAD, 0, 0, at), (_AND, 0, 0, mask), (_EQUAL, 0, after + 1, value)]
    return [*code, (_RETURN, 0, 0, refusal.action), (_LOAD, 0, 0, _NUMBER_AT)]
