"""Reading and writing cgroup files: one open, one write, and an error that names the file."""

import os

from wherry.errors import KernelError


def write(path: str, value: str) -> None:
    """Write `value` in one write(2).

    Raises:
        KernelError: the kernel refuses; `errno` says how (ENOENT: no such controller or file here).
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(f"write {value!r} to cgroup file", error.errno or 0, path) from None
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise KernelError(f"write {value!r} to cgroup file", error.errno or 0, path) from None
    finally:
        os.close(fd)


def read(path: str) -> str:
    """The whole text of a cgroup file.

    Raises:
        KernelError: it cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("read cgroup file", error.errno or 0, path) from None
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")
    except OSError as error:
        raise KernelError("read cgroup file", error.errno or 0, path) from None
    finally:
        os.close(fd)


def read_or(path: str, default: str = "") -> str:
    """The text of a cgroup file, or `default` where it cannot be read."""
    try:
        return read(path)
    except KernelError:
        return default


def read_int(path: str) -> int | None:
    """One number; `max` and a file that is not there are None."""
    text = read_or(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def read_table(path: str) -> dict[str, int]:
    """A flat keyed file (`anon 4096\\n…`) as numbers; empty where it cannot be read."""
    found: dict[str, int] = {}
    for line in read_or(path).splitlines():
        key, _, value = line.partition(" ")
        if value.strip().lstrip("-").isdigit():
            found[key] = int(value)
    return found
