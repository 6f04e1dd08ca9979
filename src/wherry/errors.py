"""The one exception tree. No HTTP in it, no rendering: a class says what went wrong, its fields say with what.

    WherryError
      InvalidArgument            the caller's words are wrong
        InvalidReference           an image name that the grammar does not allow
        InvalidSpec                an OCI document that breaks its specification
      CommandNotFound            process 1 (or an exec) names no file in PATH
      CommandNotExecutable       it names one that cannot be executed
      Unauthorized, Forbidden
      NotFound
        ContainerNotFound, ImageNotFound, NetworkNotFound, VolumeNotFound, ExecNotFound
      Conflict                   the object is in a state that forbids it
        NameInUse, NotRunning, AlreadyRunning, Paused, NotPaused, ImageInUse, AmbiguousPrefix
      AlreadyInState             what was asked is already so (HTTP's 304)
      PortUnavailable            a host port is taken, or cannot be bound
      NotSupported               a flag or call that this engine does not have
      Unavailable                a process or service that should answer does not
        MonitorLost                a container's monitor is gone
        NotBegun                   a process of ours was killed before it did anything: it may be tried again
      TooManyOpenFiles           this process is at its limit of descriptors
      KernelError (also OSError) a system call failed; names the call
        DescriptorsLost            a message came, and its descriptors had no room in this process
      StoreError
        DigestMismatch, StoreCorrupt, NewerSchema
      HostileInput               an archive, layer or document breaks a limit or tries to escape

`str(error)` of a mapped class is wire text: clients match on it, and golden tests hold it. One table in `api/`
maps classes to status, one in `cli/` to exit codes. Errors cross a fork or a socket as `to_wire()` and come back,
as the same class, from `from_wire()`; text is never parsed.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class WherryError(Exception):
    """The root of everything this project raises on purpose.

    Args:
        message: what a person reads; Docker's words where Docker has words.
        facts: plain JSON values that a handler may need (`kind`, `id`, `path`, `errno`…).
    """

    def __init__(self, message: str, **facts: "Any") -> None:
        super().__init__(message)
        self.message = message
        self.facts: dict[str, Any] = facts

    def __str__(self) -> str:
        return self.message


class InvalidArgument(WherryError):
    """The caller's words are wrong."""


class InvalidReference(InvalidArgument):
    """An image name that the reference grammar does not allow."""


class InvalidSpec(InvalidArgument):
    """An OCI document that breaks its specification."""


class CommandNotFound(WherryError):
    """The program of process 1, or of an exec, is not there (exit code 127)."""


class CommandNotExecutable(WherryError):
    """The program is there and cannot be executed (exit code 126)."""


class Unauthorized(WherryError):
    """No credential, or a wrong one."""


class Forbidden(WherryError):
    """A credential that does not allow this."""


class NotFound(WherryError):
    """The named object does not exist."""


class ContainerNotFound(NotFound):
    """No container answers to that name or id prefix."""

    def __init__(self, message: str, **facts: "Any") -> None:
        super().__init__(message if " " in message else f"No such container: {message}", **facts)


class ImageNotFound(NotFound):
    """No image answers to that name or id prefix."""

    def __init__(self, message: str, **facts: "Any") -> None:
        super().__init__(message if " " in message else f"No such image: {message}", **facts)


class NetworkNotFound(NotFound):
    """No such network."""


class VolumeNotFound(NotFound):
    """No such volume."""


class ExecNotFound(NotFound):
    """No such exec instance."""


class Conflict(WherryError):
    """The object is in a state that forbids the call."""


class NameInUse(Conflict):
    """Another container has that name."""


class NotRunning(Conflict):
    """The call needs a running container."""


class AlreadyRunning(Conflict):
    """The call needs a container that does not run."""


class Paused(Conflict):
    """The container is paused."""


class NotPaused(Conflict):
    """The container is not paused."""


class ImageInUse(Conflict):
    """A container, or another name, needs the image."""


class AmbiguousPrefix(WherryError):
    """An id prefix that fits several objects."""


class AlreadyInState(WherryError):
    """What was asked is already so."""


class PortUnavailable(WherryError):
    """A host port that was asked for is taken, or cannot be bound."""


class NotSupported(WherryError):
    """A flag, option or call that this engine does not have."""


class Unavailable(WherryError):
    """A process or service that should answer does not."""


class MonitorLost(Unavailable):
    """A container's monitor is gone."""


class NotBegun(Unavailable):
    """A process of ours was killed before anything was started: whoever asked may ask again."""


class TooManyOpenFiles(WherryError):
    """This process is at its limit of descriptors, or has only those left that it keeps to end things."""


class KernelError(WherryError, OSError):
    """A system call failed.

    Args:
        call: the system call, or the step that made it (`mount proc on /proc`).
        errno: its error number.
        path: the file it was about, if any.
    """

    def __init__(self, call: str, errno: int = 0, path: str | None = None, **facts: "Any") -> None:
        import os

        text = f"{call}: {os.strerror(errno).lower()}" if errno else call
        WherryError.__init__(self, f"{text}: {path}" if path else text, **facts)
        self.call = call
        self.errno = errno
        self.filename = path
        self.facts.update(call=call, errno=errno, path=path)


class DescriptorsLost(KernelError):
    """A message came, and there was no room in this process for its descriptors.

    Args:
        seq: the number of the request that it belongs to.
    """

    def __init__(self, seq: int | None = None) -> None:
        import errno

        super().__init__("recvmsg", errno.EMFILE, seq=seq)


class StoreError(WherryError):
    """What is stored is not what was promised."""


class DigestMismatch(StoreError):
    """Content does not hash to its digest, or has another size."""


class StoreCorrupt(StoreError):
    """A stored file is missing, truncated or unreadable."""


class NewerSchema(StoreError):
    """The data root was written by a newer version."""


class HostileInput(WherryError):
    """An archive, layer or document breaks a limit or tries to leave its place."""


def _classes(base: type[WherryError]) -> "dict[str, type[WherryError]]":
    found = {base.__name__: base}
    for sub in base.__subclasses__():
        found.update(_classes(sub))
    return found


def to_wire(error: BaseException) -> "dict[str, Any]":
    """Turn an error into JSON values: `{"class", "message", "facts"}`. A foreign exception becomes its text."""
    if isinstance(error, WherryError):
        return {"class": type(error).__name__, "message": error.message, "facts": error.facts}
    return {"class": "WherryError", "message": f"{type(error).__name__}: {error}", "facts": {}}


def from_wire(value: "dict[str, Any]") -> WherryError:
    """Rebuild the error that `to_wire` described; an unknown class comes back as `WherryError`."""
    cls = _classes(WherryError).get(str(value.get("class")), WherryError)
    error = cls.__new__(cls)
    message, facts = str(value.get("message", "")), dict(value.get("facts") or {})
    WherryError.__init__(error, message, **{k: v for k, v in facts.items() if k != "message"})
    if isinstance(error, KernelError):
        error.call, error.errno, error.filename = facts.get("call", ""), facts.get("errno", 0), facts.get("path")
    return error
