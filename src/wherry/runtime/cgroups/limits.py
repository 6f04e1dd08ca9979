"""One limit, described and not yet written; and how an OCI `linux.resources` object is read.

The tables in `limits_v1` and `limits_v2` turn a resources object into a list of `Write`, pure values that tests can
compare; the cgroup classes carry them out.
"""

from wherry.errors import InvalidSpec, KernelError, NotSupported
from wherry.runtime.cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ENOENT = 2


class Write:
    """A value for a cgroup file.

    Args:
        controller: whose directory it is in.
        names: the file; with several, the first that exists.
        value: what is written.
        what: the limit in the user's words, for the error when it cannot be had.
        otherwise: what is written instead where none of the files exists.
    """

    __slots__ = ("controller", "names", "otherwise", "value", "what")

    def __init__(
        self,
        controller: str,
        names: "str | tuple[str, ...]",
        value: "str | int",
        what: str,
        otherwise: "Write | None" = None,
    ) -> None:
        self.otherwise = otherwise
        self.controller = controller
        self.names = (names,) if isinstance(names, str) else names
        self.value = str(value)
        self.what = what

    def __repr__(self) -> str:
        return f"Write({self.controller!r}, {self.names!r}, {self.value!r}, {self.what!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Write) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash((self.controller, self.names, self.value))

    def apply(self, directory: "str | None") -> None:
        """Write it below `directory` (None: the host does not have the controller).

        Raises:
            NotSupported: the controller or the file is not there.
            KernelError: the kernel refuses the value.
        """
        if directory is None:
            raise NotSupported(
                f"{self.what} cannot be applied: this host does not offer the {self.controller} cgroup controller",
                controller=self.controller,
            )
        for name in self.names:
            try:
                files.write(f"{directory}/{name}", self.value)
                return
            except KernelError as error:
                if error.errno != ENOENT:
                    raise KernelError(
                        f"{self.what} cannot be applied: write {self.value!r} to cgroup file",
                        error.errno or 0,
                        f"{directory}/{name}",
                    ) from None
        if self.otherwise:
            self.otherwise.apply(directory)
            return
        raise NotSupported(
            f"{self.what} cannot be applied: this kernel has no {' or '.join(self.names)} here",
            controller=self.controller,
        )


def section(resources: "Mapping[str, Any]", name: str) -> "Mapping[str, Any]":
    """A sub-object of a resources object; absent or null is empty."""
    value = resources.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidSpec(f"linux.resources.{name}: not an object")
    return value


def number(owner: "Mapping[str, Any]", name: str, where: str) -> "int | None":
    """An integer member, or None when it is absent or null."""
    value = owner.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidSpec(f"linux.resources.{where}.{name}: not an integer")
    return value


def text(owner: "Mapping[str, Any]", name: str, where: str) -> str:
    """A string member that fits on one line, or empty."""
    value = owner.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or "\n" in value or "\0" in value:
        raise InvalidSpec(f"linux.resources.{where}.{name}: not a line of text")
    return value


def items(owner: "Mapping[str, Any]", name: str, where: str) -> "list[Mapping[str, Any]]":
    """A list of objects, or empty."""
    value = owner.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidSpec(f"linux.resources.{where}.{name}: not a list of objects")
    return value
