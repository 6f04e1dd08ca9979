"""Ceilings for archives that strangers wrote. Runs in forked workers: imports nothing."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GIB = 1 << 30
MIB = 1 << 20


class Limits:
    """How much one archive may ask for before it is refused with `HostileInput`.

    Args:
        max_bytes: bytes of the archive once inflated, and of all its files with their holes filled.
        max_entries: headers of any kind, extended ones and members of the compressed stream included.
        max_path: bytes of a path or a link target.
        max_depth: components of a path.
        max_header: bytes of one extended header, long name or sparse map.
        ratio: inflated bytes per compressed byte, once `ratio_floor` inflated bytes have been seen.
        ratio_floor: inflated bytes that are allowed whatever they came from.
        zstd_window: bytes of history that a zstd frame may ask us to keep.
        lzma_memory: bytes that an xz stream may ask us to keep.
    """

    __slots__ = (
        "lzma_memory",
        "max_bytes",
        "max_depth",
        "max_entries",
        "max_header",
        "max_path",
        "ratio",
        "ratio_floor",
        "zstd_window",
    )

    def __init__(
        self,
        *,
        max_bytes: int = 256 * GIB,
        max_entries: int = 4_000_000,
        max_path: int = 4095,
        max_depth: int = 256,
        max_header: int = MIB,
        ratio: int = 200,
        ratio_floor: int = GIB,
        zstd_window: int = 128 * MIB,
        lzma_memory: int = 128 * MIB,
    ) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.max_path = max_path
        self.max_depth = max_depth
        self.max_header = max_header
        self.ratio = ratio
        self.ratio_floor = ratio_floor
        self.zstd_window = zstd_window
        self.lzma_memory = lzma_memory

    def to_json(self) -> "dict[str, int]":
        """The ceilings as a worker's arguments carry them."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: "dict[str, Any] | None") -> "Limits":
        """Rebuild from `to_json`; what is not named keeps its default. An unknown name is a TypeError."""
        return cls(**(value or {}))
