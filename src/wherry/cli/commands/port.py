"""`port` and `top`: what a container publishes, what runs in it."""

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Invocation
from wherry.cli.output import columns, line, out
from wherry.client.http import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _address(binding: "dict[str, Any]") -> str:
    host = binding.get("HostIp") or ""
    return f"{f'[{host}]' if ':' in host else host}:{binding.get('HostPort', '')}"


def _port(command: Invocation) -> None:
    name = command.args[0]
    container = command.client.call("GET", f"/containers/{quote(name)}/json")
    ports = (container.get("NetworkSettings") or {}).get("Ports") or {}
    if len(command.args) > 1:
        wanted, _, protocol = command.args[1].partition("/")
        bindings = ports.get(f"{wanted}/{protocol or 'tcp'}")
        if not bindings:
            raise Failure(f"Error: No public port '{command.args[1]}' published for {name}")
        for binding in bindings:
            line(_address(binding))
        return

    def order(port: str) -> "tuple[int, str]":
        number, _, protocol = port.partition("/")
        return (int(number) if number.isdigit() else 0), protocol

    for port in sorted(ports, key=order):
        for binding in ports[port] or ():
            line(f"{port} -> {_address(binding)}")


def _top(command: Invocation) -> None:
    name, *options = command.args
    listing = command.client.call("GET", f"/containers/{quote(name)}/top", {"ps_args": " ".join(options)})
    rows = [listing["Titles"], *(listing.get("Processes") or ())]
    out(columns(rows, minimum=20, gap=3))


PORT = Command(
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    _port,
    arguments=(1, 2),
    aliases=("container port", "port"),
)
TOP = Command(
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    _top,
    arguments=(1, None),
    aliases=("container top", "top"),
    interspersed=False,
)
COMMANDS = {"port": PORT, "container port": PORT, "top": TOP, "container top": TOP}
