"""Which checks there are, in the order in which they run."""

from types import ModuleType

BOUNDARIES = ("engine_starts", "engine_ends")


def names(module: ModuleType) -> list[str]:
    """The checks of a module, as they stand in it."""
    return [name for name in vars(module) if name.startswith("check_")]
