"""The C library's heap (malloc(3)): a process that serves for months gives back what a moment's crowd made it take."""

import ctypes

from wherry.linux.libc import libc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_flat() -> None:
    """Few arenas for threads, and large buffers that go back at once (mallopt(3)). Before threads are started."""
    mallopt = libc["mallopt"]
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    for option, value in ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, 4 << 20), (_M_TRIM_THRESHOLD, 4 << 20)):
        mallopt(option, value)


def trim() -> None:
    """Give free memory back (malloc_trim(3))."""
    libc.malloc_trim(0)
