"""What a process gives back when it has nothing to do, because a machine has hundreds of idle ones.

A burst of output or a launch leaves free memory in the heap, and pages of program text mapped that nobody will run for
hours. The text stays in the page cache: running it again costs a few minor faults.
"""

import ctypes

from wherry.linux.libc import libc

_MADV_DONTNEED = 4


def rest() -> None:
    """Return free heap memory (malloc_trim(3)) and unmap pages of executable files (madvise(2))."""
    libc.malloc_trim(0)
    with open("/proc/self/maps", "rb") as file:
        maps = file.read()
    for line in maps.splitlines():
        fields = line.split(None, 5)
        # only what is executable and was never writable: its pages are the file's, so that nothing is lost with them
        if len(fields) == 6 and fields[1] == b"r-xp" and fields[5].startswith(b"/"):
            start, end = (int(address, 16) for address in fields[0].split(b"-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
