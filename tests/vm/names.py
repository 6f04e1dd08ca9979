"""Which checks there are, in the order in which they run."""

from types import ModuleType

_PREFIX = "check_"


def names(module: ModuleType) -> list[str]:
    """The checks of a module, as they stand in it, without what all their names begin with."""
    return [name.removeprefix(_PREFIX) for name in vars(module) if name.startswith(_PREFIX)]
