"""libseccomp by ctypes: from rules to a BPF program (seccomp_init(3) and its family).

The library is loaded when it is first needed, and its absence is an error: there is no way on without it.
"""

import ctypes
import os

from wherry.errors import KernelError, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LIBRARY = "libseccomp.so.2"

ALLOW, LOG = 0x7FFF0000, 0x7FFC0000
KILL_PROCESS, KILL_THREAD, TRAP = 0x80000000, 0x00000000, 0x00030000
ERRNO, TRACE = 0x00050000, 0x7FF00000

NE, LT, LE, EQ, GE, GT, MASKED_EQ = 1, 2, 3, 4, 5, 6, 7

_ATTRIBUTE_NNP, _ATTRIBUTE_OPTIMIZE = 3, 8
_EEXIST, _EFAULT, _EDOM, _EINVAL = 17, 14, 33, 22
UNKNOWN = -1


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`: argument `index` is compared by `op` with `a` (for MASKED_EQ a mask; `b` is the value)."""

    _fields_ = (
        ("index", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


_loaded: "ctypes.CDLL | None" = None


def _library() -> ctypes.CDLL:
    global _loaded
    if _loaded is not None:
        return _loaded
    try:
        lib = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NotSupported(f"seccomp cannot be had: {LIBRARY} cannot be loaded ({error})") from None
    lib.seccomp_version.restype = ctypes.POINTER(_Version)
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_release.argtypes = [ctypes.c_void_p]
    lib.seccomp_release.restype = None
    lib.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    lib.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    lib.seccomp_arch_native.restype = ctypes.c_uint32
    lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Comparison),
    ]
    lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    _loaded = lib
    return lib


def version() -> str:
    """The library's version.

    Raises:
        NotSupported: it is not there.
    """
    found = _library().seccomp_version().contents
    return f"{found.major}.{found.minor}.{found.micro}"


def architecture(name: str) -> int:
    """The token of an architecture (`x86_64`, `aarch64`…); 0: the library does not know it."""
    return int(_library().seccomp_arch_resolve_name(name.encode()))


def native() -> int:
    """The token of this machine's architecture."""
    return int(_library().seccomp_arch_native())


def number(name: str, token: int | None = None) -> int:
    """A system call's number, of `token`'s architecture or of this machine's.

    Returns:
        The number; `UNKNOWN` when the library has not heard of it; below that, known but not on that architecture.
    """
    if token is None:
        return int(_library().seccomp_syscall_resolve_name(name.encode()))
    return int(_library().seccomp_syscall_resolve_name_arch(token, name.encode()))


class Filter:
    """A filter that is being built. Close it (it is C memory).

    Args:
        default: the action for what no rule names.
    """

    __slots__ = ("_context", "_lib")

    def __init__(self, default: int) -> None:
        self._lib = _library()
        self._context: int | None = self._lib.seccomp_init(default)
        if not self._context:
            raise KernelError(f"seccomp: start a filter with action {default:#x}", _EINVAL)
        # whether privileges may still be gained is for the container's own option to say
        self._check(self._lib.seccomp_attr_set(self._context, _ATTRIBUTE_NNP, 0), "no-new-privileges attribute")
        # a tree of comparisons instead of a list; an older library orders them by how often a call is made
        self._lib.seccomp_attr_set(self._context, _ATTRIBUTE_OPTIMIZE, 2)

    def __enter__(self) -> "Filter":  # noqa: PYI034 Self would need typing
        return self

    def __exit__(self, *_: object) -> None:
        if self._context:
            self._lib.seccomp_release(self._context)
            self._context = None

    def add_architecture(self, token: int) -> None:
        """Filter calls of another architecture too; the native one is there already."""
        result = self._lib.seccomp_arch_add(self._context, token)
        if result != -_EEXIST:
            self._check(result, f"add architecture {token:#x}")

    def add_rule(self, action: int, call: int, comparisons: "Sequence[Comparison]" = ()) -> None:
        """Add a rule for the calls whose arguments fit every comparison.

        Raises:
            KernelError: the library refuses it.
        """
        array = (Comparison * len(comparisons))(*comparisons)
        result = self._lib.seccomp_rule_add_array(self._context, action, call, len(comparisons), array)
        if result != -_EEXIST:
            self._check(result, f"add a rule for system call {call}")

    def export(self) -> bytes:
        """The program: 8 bytes an instruction (`struct sock_filter`)."""
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            self._check(self._lib.seccomp_export_bpf(self._context, fd), "export the program")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def _check(self, result: int, what: str) -> None:
        if result < 0:
            raise KernelError(f"seccomp: {what}", -result)
