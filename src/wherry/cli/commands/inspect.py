"""`inspect`: containers, images, networks, volumes; JSON as the engine gave it, or a template."""

from wherry.cli.commands.common import INSPECT_FORMAT
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import err, out
from wherry.client.errors import ServerError
from wherry.client.http import quote
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# in the order in which a name without a type is looked for
_KINDS = {
    "container": ("/containers/{}/json", "container.InspectResponse", ""),
    "image": ("/images/{}/json", "image.InspectResponse", "/:@"),
    "network": ("/networks/{}", "network.Inspect", ""),
    "volume": ("/volumes/{}", "volume.Volume", ""),
}
_TEMPLATE_FAILED = 64  # sysexits' EX_USAGE, as Docker's command


class _Found:
    __slots__ = ("kind", "raw")

    def __init__(self, kind: str, raw: bytes) -> None:
        self.kind = kind
        self.raw = raw


def _look(command: Invocation, kind: str, name: str) -> _Found:
    path, _, keep = _KINDS[kind]
    size = "size" in command.values.changed and command["size"]
    query = {"size": True if kind == "container" and size else None}
    response = command.client.request("GET", path.format(quote(name, keep)), query)
    return _Found(kind, response.read())


def _look_anywhere(command: Invocation, name: str) -> _Found:
    for kind in _KINDS:
        try:
            return _look(command, kind, name)
        except ServerError as error:
            # a word that cannot be an image name may still be a network
            if error.status != 404 and not (kind == "image" and error.status == 400):
                raise
    raise Failure(f"Error: No such object: {name}")


def _print(format_: str, names: "Sequence[str]", look: "Callable[[str], _Found]") -> None:
    show = _json if format_ in ("", "json") else _templated(format_)
    found: list[_Found] = []
    errors: list[str] = []
    for name in names:
        try:
            found.append(look(name))
        except Failure as failure:
            errors.append(failure.message)
        except WherryError as error:
            errors.append(str(error))
    complaint = show(found, bool(format_))
    if complaint:
        err(complaint)
        errors = errors or [""]
        raise Failure("\n".join(error for error in errors if error))
    if errors:
        raise Failure("\n".join(errors))


def _json(found: "list[_Found]", compact: bool) -> str:
    from wherry.cli.jsontext import indented, squeezed

    array = b"[" + b",".join(item.raw.strip() for item in found) + b"]"
    out((squeezed(array) if compact else indented(array)) + "\n")
    return ""


def _templated(format_: str) -> "Callable[[list[_Found], bool], str]":
    from wherry.cli.template import Template, TemplateError

    try:
        typed, untyped = Template(format_), Template(format_, strict=True)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}", _TEMPLATE_FAILED) from None

    def show(found: "list[_Found]", _compact: bool) -> str:
        from wherry.cli.shapes import shaped
        from wherry.client.quickjson import loads

        text = ""
        for item in found:
            value: Any = loads(item.raw)
            try:
                text += typed.execute(shaped(_KINDS[item.kind][1], value)) + "\n"
            except TemplateError:
                try:
                    text += untyped.execute(value) + "\n"
                except TemplateError as error:
                    out(text or "\n")
                    return f"template parsing error: {error}"
        out(text or "\n")
        return ""

    return show


def _inspect(command: Invocation) -> None:
    kind = command["type"]
    if "type" in command.values.changed and kind not in _KINDS:
        from wherry.values.gotext import quote as quoted

        raise Failure(f'unknown type: {quoted(kind)}: must be one of "container", "image", "network", "volume"')

    def look(name: str) -> _Found:
        return _look(command, kind, name) if kind else _look_anywhere(command, name)

    _print(command["format"], command.args, look)


def _inspect_kind(kind: str) -> "Callable[[Invocation], None]":
    def run(command: Invocation) -> None:
        _print(command["format"], command.args, lambda name: _look(command, kind, name))

    return run


_SIZE = Flag("size", "s", "bool", "Display total file sizes")
INSPECT = Command(
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Wherry objects",
    _inspect,
    (
        INSPECT_FORMAT,
        Flag("size", "s", "bool", "Display total file sizes if the type is container"),
        Flag("type", "", "string", "Only inspect objects of the given type"),
    ),
    arguments=(1, None),
)


def _of(kind: str, use: str, flags: "tuple[Flag, ...]" = ()) -> Command:
    return Command(
        use,
        f"Display detailed information on one or more {kind}s",
        _inspect_kind(kind),
        (INSPECT_FORMAT, *flags),
        arguments=(1, None),
    )


COMMANDS = {
    "inspect": INSPECT,
    "container inspect": _of("container", "[OPTIONS] CONTAINER [CONTAINER...]", (_SIZE,)),
    "image inspect": _of("image", "[OPTIONS] IMAGE [IMAGE...]"),
    "network inspect": _of(
        "network",
        "[OPTIONS] NETWORK [NETWORK...]",
        (Flag("verbose", "v", "bool", "Verbose output for diagnostics"),),
    ),
    "volume inspect": _of("volume", "[OPTIONS] VOLUME [VOLUME...]"),
}
