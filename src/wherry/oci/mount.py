"""The one noun that snapshots, volumes, containers and the runtime share: a mount, described and not yet made."""


class Mount:
    """A mount as the OCI runtime specification words it.

    Args:
        destination: absolute path inside the container (for a root: `/`).
        type: file system type; `bind` where `source` is a file of the host; `overlay` for a snapshot.
        source: what is mounted.
        options: mount(8) options (`ro`, `rbind`, `rprivate`…, and the file system's own, `lowerdir=…`).
    """

    __slots__ = ("destination", "options", "source", "type")

    def __init__(self, destination: str, type: str, source: str, options: "tuple[str, ...]" = ()) -> None:  # noqa: A002
        self.destination = destination
        self.type = type
        self.source = source
        self.options = tuple(options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mount) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.destination, self.type, self.source, self.options))

    def __repr__(self) -> str:
        return f"Mount({self.destination!r}, {self.type!r}, {self.source!r}, {self.options!r})"

    def to_json(self) -> "dict[str, object]":
        """The mount as `config.json` writes it."""
        return {
            "destination": self.destination,
            "type": self.type,
            "source": self.source,
            "options": list(self.options),
        }
