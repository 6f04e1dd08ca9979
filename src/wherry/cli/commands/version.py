"""`version`: ours, and the engine's."""

import os
import sys

from wherry import __version__
from wherry.cli.commands.common import INSPECT_FORMAT
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Invocation
from wherry.cli.govalues import Struct, to_json
from wherry.cli.output import columns, out
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

API_VERSION = "1.51"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def client_facts(server_api: str = "") -> "dict[str, Any]":
    """What there is to say of this command; `server_api` is the engine's newest API version."""
    negotiated = min(API_VERSION, server_api or API_VERSION, key=_order)
    machine = os.uname().machine
    return {
        "Version": __version__,
        "ApiVersion": negotiated,
        "DefaultAPIVersion": API_VERSION,
        "PythonVersion": ".".join(str(part) for part in sys.version_info[:3]),
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(machine, machine),
        "Context": "default",
    }


def _order(version: str) -> "list[int]":
    return [int(part) if part.isdigit() else 0 for part in version.split(".")]


def _struct(name: str, raw: "dict[str, Any]") -> Struct:
    fields = {key: (key, value) for key, value in raw.items()}
    for go_name, key in (("APIVersion", "ApiVersion"), ("MinAPIVersion", "MinAPIVersion")):
        if key in raw:
            fields[go_name] = (key, raw[key])
    return Struct(name, fields, raw, False)


def _client_rows(client: "dict[str, Any]") -> "list[tuple[str, str]]":
    api = client["ApiVersion"]
    if api != client["DefaultAPIVersion"]:
        api += f" (downgraded from {client['DefaultAPIVersion']})"
    return [
        (" Version:", client["Version"]),
        (" API version:", api),
        (" Python version:", client["PythonVersion"]),
        (" OS/Arch:", f"{client['Os']}/{client['Arch']}"),
        (" Context:", client["Context"]),
    ]


_ENGINE_ROWS = (
    ("API version", lambda of: f"{of('ApiVersion')} (minimum version {of('MinAPIVersion')})", "ApiVersion"),
    ("Go version", lambda of: of("GoVersion"), "GoVersion"),
    ("Python version", lambda of: of("PythonVersion"), "PythonVersion"),
    ("Git commit", lambda of: of("GitCommit"), "GitCommit"),
    ("Built", lambda of: of("BuildTime"), "BuildTime"),
    ("OS/Arch", lambda of: f"{of('Os')}/{of('Arch')}", "Os"),
    ("Experimental", lambda of: of("Experimental"), "Experimental"),
)


def _component_rows(component: "dict[str, Any]") -> "list[tuple[str, str]]":
    details = component.get("Details") or {}
    rows = [("  Version:", str(component.get("Version", "")))]
    if component.get("Name") == "Engine":
        rows += [
            (f"  {label}:", str(value(lambda key: details.get(key, ""))))
            for label, value, key in _ENGINE_ROWS
            if details.get(key)
        ]
    else:
        rows += [(f"  {key}:", str(details[key])) for key in sorted(details)]
    return rows


def _version(command: Invocation) -> None:
    server: dict[str, Any] | None = None
    failure = ""
    try:
        server = command.client.call("GET", "/version")
    except WherryError as error:
        failure = str(error)
    client = client_facts(str((server or {}).get("ApiVersion", "")))
    format_ = command["format"]
    if format_ == "json":
        out(to_json({"Client": client, "Server": server}, escape_html=True) + "\n")
    elif format_:
        _templated(format_, client, server)
    else:
        text = "Client:\n" + columns(_client_rows(client), minimum=20, gap=1)
        if server is not None:
            platform = (server.get("Platform") or {}).get("Name", "")
            text += f"\nServer:{' ' if platform else ''}{platform}\n"
            for component in server.get("Components") or ():
                text += f" {component['Name']}:\n" + columns(_component_rows(component), minimum=20, gap=1)
        out(text)
    if failure:
        raise Failure(failure)


def _templated(format_: str, client: "dict[str, Any]", server: "dict[str, Any] | None") -> None:
    from wherry.cli.template import Template, TemplateError

    try:
        template = Template(format_, name="version")
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}", 64) from None
    raw = {"Client": client, "Server": server}
    fields = {
        "Client": ("Client", _struct("system.clientVersion", client)),
        "Server": ("Server", None if server is None else _struct("types.Version", server)),
    }
    try:
        out(template.execute(Struct("system.versionInfo", fields, raw, False)) + "\n")
    except TemplateError as error:
        out("\n")
        raise Failure(str(error)) from None


VERSION = Command("[OPTIONS]", "Show the Wherry version information", _version, (INSPECT_FORMAT,))
COMMANDS = {"version": VERSION}
