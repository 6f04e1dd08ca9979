"""Capability sets as bits: names to numbers, less what the host does not have."""

from wherry.errors import InvalidSpec
from wherry.linux.capability import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.oci.runtime_config import Capabilities

EVERY = (1 << len(NUMBERS)) - 1


class CapabilityBits:
    """The five sets as bit sets."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, bounding: int, effective: int, inheritable: int, permitted: int, ambient: int) -> None:
        self.bounding = bounding
        self.effective = effective
        self.inheritable = inheritable
        self.permitted = permitted
        self.ambient = ambient


def bits(names: "Iterable[str]") -> int:
    """Bit set of capability names. Raises `InvalidSpec` for a name that is none."""
    found = 0
    for name in names:
        number = NUMBERS.get(name.upper())
        if number is None:
            raise InvalidSpec(f"unknown capability {name!r}")
        found |= 1 << number
    return found


def names(value: int) -> "list[str]":
    """Names of a bit set, by number."""
    return [name for name, number in NUMBERS.items() if value >> number & 1]


def capability_bits(capabilities: "Capabilities | None", host: int) -> "tuple[CapabilityBits, tuple[str, ...]]":
    """The sets that can be had, and the names asked for that the host lacks. No sets at all are empty sets.

    Args:
        capabilities: from the configuration.
        host: bit set of what can be given.
    """
    if capabilities is None:
        return CapabilityBits(0, 0, 0, 0, 0), ()
    bounding, effective = bits(capabilities.bounding), bits(capabilities.effective)
    inheritable, permitted = bits(capabilities.inheritable), bits(capabilities.permitted)
    ambient = bits(capabilities.ambient)
    if effective & ~permitted:
        raise InvalidSpec("process.capabilities.effective must be within permitted")
    missing = (bounding | permitted | inheritable) & ~host
    # the kernel refuses an ambient capability that is not both permitted and inheritable
    return (
        CapabilityBits(
            bounding & host,
            effective & host,
            inheritable & host,
            permitted & host,
            ambient & permitted & inheritable & host,
        ),
        tuple(names(missing)),
    )
