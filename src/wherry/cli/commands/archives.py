"""Images and containers as files: `load`, `save`, `import`, `export`."""

import os

from wherry.cli.failure import Failure
from wherry.cli.files import open_source, save
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import write_all
from wherry.cli.progress import show_progress
from wherry.cli.reference import InvalidName, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TAR = {"Content-Type": "application/x-tar"}


def _load(command: Invocation) -> None:
    path = command["input"]
    if path:
        fd = open_source(path)
    else:
        if os.isatty(0):
            raise Failure("requested load from stdin, but stdin is empty")
        fd = 0
    quiet = command["quiet"] or not os.isatty(1)
    response = command.client.request(
        "POST",
        "/images/load",
        {"quiet": quiet, "platform": command["platform"]},
        upload=fd,
        headers=_TAR,
    )
    if "json" in response.headers.get("content-type", ""):
        show_progress(response)
        return
    while data := response.read_some():
        write_all(1, data)


def _save(command: Invocation) -> None:
    names = "&".join(f"names={_quoted(name)}" for name in command.args)
    _download(command, f"/images/get?{names}", "save", "failed to save image: ")


def _export(command: Invocation) -> None:
    _download(command, f"/containers/{_quoted(command.args[0])}/export", "export", "failed to export container: ")


def _download(command: Invocation, source: str, verb: str, failed: str) -> None:
    """Write an archive to the file that was asked for, or to standard output."""
    path = command["output"]
    if not path and os.isatty(1):
        raise Failure(f"cowardly refusing to {verb} to a terminal. Use the -o flag or redirect")
    if path and os.path.dirname(path) and not os.path.isdir(os.path.dirname(path)):
        where = os.path.dirname(path)
        raise Failure(f"{failed}invalid output path: stat {where}: no such file or directory")
    response = command.client.request("GET", source)
    save(response, path)


def _quoted(name: str) -> str:
    from wherry.client.http import quote

    return quote(name)


def _import(command: Invocation) -> None:
    source = command.args[0]
    repository = tag = ""
    if len(command.args) > 1:
        name = command.args[1]
        try:
            repository, tag, _ = split(name)
        except InvalidName as error:
            raise Failure(str(error)) from None
    query: dict[str, Any] = {
        "repo": repository,
        "tag": tag,
        "message": command["message"],
        "platform": command["platform"],
    }
    upload: int | None
    if source == "-":
        upload, query["fromSrc"] = 0, "-"
    elif source.startswith(("http://", "https://")):
        upload, query["fromSrc"] = None, source
    else:
        upload, query["fromSrc"] = open_source(source), "-"
    from wherry.client.http import target

    path = target("/images/create", query)
    path += "".join(f"&changes={_quoted(change)}" for change in command["change"])
    response = command.client.request("POST", path, upload=upload, headers=_TAR)
    show_progress(response)


LOAD = Command(
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    _load,
    (
        Flag("input", "i", "string", "Read from tar archive file, instead of STDIN"),
        Flag(
            "platform",
            "",
            "string",
            'Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        ),
        Flag("quiet", "q", "bool", "Suppress the load output"),
    ),
    aliases=("image load", "load"),
)
SAVE = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    _save,
    (Flag("output", "o", "string", "Write to a file, instead of STDOUT"),),
    arguments=(1, None),
    aliases=("image save", "save"),
)
IMPORT = Command(
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    _import,
    (
        Flag("change", "c", "list", "Apply Dockerfile instruction to the created image"),
        Flag("message", "m", "string", "Set commit message for imported image"),
        Flag("platform", "", "string", "Set platform if server is multi-platform capable"),
    ),
    arguments=(1, None),
    aliases=("image import", "import"),
)
EXPORT = Command(
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    _export,
    (Flag("output", "o", "string", "Write to a file, instead of STDOUT"),),
    arguments=(1, 1),
    aliases=("container export", "export"),
)
_ALL = {"load": LOAD, "save": SAVE, "import": IMPORT}
COMMANDS = {
    **_ALL,
    **{f"image {name}": command for name, command in _ALL.items()},
    "export": EXPORT,
    "container export": EXPORT,
}
