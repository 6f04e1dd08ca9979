"""The host's CRIU: where it is, and whether it can work here, which it is asked itself (`criu check`), once."""

import asyncio
import os
import shutil

from wherry.errors import WherryError

_SECONDS = 60
_LIMIT = 300

# from this version on it can be told to leave the network alone
_SKIPS_LOCK = (3, 19)

# of a program, by what tells it from a later one of the same name: its command line, or what it complains about
_known: dict[tuple[str, int, int, int], list[str] | str] = {}


async def find() -> list[str]:
    """Look for criu on PATH, and ask it.

    Returns:
        The words that its command line begins with. Where it can, it locks no network: the container is frozen, and
        there are no connections to hold back. An older one does it by nftables, as the engine does, if it can.

    Raises:
        WherryError: there is none (runc's words), or it cannot work with this kernel, with its own words.
    """
    program = shutil.which("criu")
    if program is None:
        raise WherryError('CRIU version check failed: exec: "criu": executable file not found in $PATH')
    program = os.path.abspath(program)
    status = os.stat(program)
    key = (program, status.st_mtime_ns, status.st_size, status.st_ino)
    known = _known.get(key)
    if known is None:
        known = _known[key] = await _check(program)
    if isinstance(known, str):
        raise WherryError(known)
    return known


async def _check(program: str) -> list[str] | str:
    code, text = await _ask(program, "check")
    _, answer = await _ask(program, "--version")
    number = (answer.partition("Version:")[2].split() or ["(of unknown version)"])[0]
    if code == 0:
        version = tuple(int(part) for part in number.split(".") if part.isdecimal())
        if version >= _SKIPS_LOCK:
            return [program, "--network-lock", "skip"]
        by_nftables, _ = await _ask(program, "check", "--feature", "network_lock_nftables")
        return [program, "--network-lock", "nftables"] if by_nftables == 0 else [program]
    return (
        f"CRIU check failed: {program} {number} cannot work with kernel {os.uname().release}: "
        f"{_complaint(text) or f'exit status {code}'}"
    )


async def _ask(program: str, *words: str) -> tuple[int | None, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
        )
    except OSError as error:
        return None, f"Error (exec): {error.strerror}"
    try:
        async with asyncio.timeout(_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None, f"Error (time): no answer within {_SECONDS} seconds"
    return process.returncode, out[: 1 << 16].decode("utf-8", "replace")


def _complaint(text: str) -> str:
    """The first error: those after it are its consequences."""
    for line in text.splitlines():
        _, found, words = line.partition("Error (")
        message = words.partition("): ")[2].strip()
        if found and message:
            return "".join(c if c.isprintable() else "?" for c in message[:_LIMIT])
    return "".join(c if c.isprintable() else " " for c in text.strip()[:_LIMIT])
