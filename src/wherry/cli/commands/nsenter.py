"""`nsenter`: a process of this machine in a container's namespaces, as `nsenter -t PID -a` does it.

It is not confined as the container is: no system-call filter, all capabilities, not in its cgroup; and the program is
the image's. So it must be named: nobody runs a stranger's shell as root by leaving a word out. `exec` is confined.
"""

import os

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Invocation
from wherry.client.http import quote


def _nsenter(command: Invocation) -> int:
    name, *words = command.args
    words = words[1:] if words[:1] == ["--"] else words
    if not words:
        raise Failure(
            "nsenter runs a program of the container's image as this machine's root, unconfined: say which one\n"
            f"(wherry nsenter {name} sh). What is confined as the container is: wherry exec -it {name} sh"
        )
    shown = command.client.call("GET", f"/containers/{quote(name)}/json")
    pid = int(shown["State"]["Pid"])
    if not shown["State"]["Running"] or pid <= 0:
        raise Failure(f"Error: container {name} is not running")
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            here = shown["Id"] in file.read()
    except OSError:
        here = False
    if not here:
        raise Failure(f"Error: container {name} does not run on this machine")
    try:
        os.execvp("nsenter", ["nsenter", "-t", str(pid), "-a", "--", *words])
    except OSError as error:
        raise Failure(f"Error: nsenter (of util-linux): {os.strerror(error.errno or 0).lower()}", 127) from None


COMMANDS = {
    "nsenter": Command(
        "CONTAINER COMMAND [ARG...]",
        "Run a program of a container's image in its namespaces, as root and unconfined",
        _nsenter,
        arguments=(1, None),
        aliases=("container nsenter", "nsenter"),
        interspersed=False,
    )
}
COMMANDS["container nsenter"] = COMMANDS["nsenter"]
