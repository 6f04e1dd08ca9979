"""Top: the processes of a container as the host's ps sees them."""

import asyncio

from wherry.containers.model import Container
from wherry.errors import InvalidArgument, NotRunning, WherryError


async def top(container: Container, ps_args: str) -> dict[str, list[str] | list[list[str]]]:
    """List processes with `ps`.

    Args:
        ps_args: arguments for ps (`-ef` when empty); PID must be among the columns.

    Raises:
        NotRunning, InvalidArgument, WherryError: in dockerd's words.
    """
    if not container.running or container.monitor is None:
        raise NotRunning(f"container {container.id} is not running")
    arguments = ps_args.split() or ["-ef"]
    members = {str(pid) for pid in (await container.monitor.request("pids"))["pids"]}
    try:
        process = await asyncio.create_subprocess_exec(
            "ps", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        raise WherryError('exec: "ps": executable file not found in $PATH') from None
    out, err = await process.communicate()
    if process.returncode:
        raise WherryError(f"ps: {err.decode(errors='replace').strip().partition(chr(10))[0]}")
    lines = out.decode(errors="replace").splitlines()
    titles = lines[0].split()
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return {"Titles": titles, "Processes": [row for row in rows if len(row) > column and row[column] in members]}
