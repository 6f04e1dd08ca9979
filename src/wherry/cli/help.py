"""Help texts, laid out as Docker's: usage, summary, aliases, then flags wrapped to the terminal."""

import os

from wherry.cli.table import COMMANDS, GROUPS, TOP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wherry.cli.flags import Command, Flag

_SLOP = 5  # a line may be this much longer when that saves a break
_NAME_WIDTH = 11


def root_help(flags: "Sequence[Flag]") -> str:
    """What `wherry --help` prints."""
    return "\n".join(
        (
            "Usage:  wherry [OPTIONS] COMMAND",
            "",
            "A container engine, image builder and registry that every Docker client can talk to",
            "",
            "Common Commands:",
            *_listing(TOP),
            "",
            "Management Commands:",
            *(f"  {name:{_NAME_WIDTH}} {summary}" for name, (summary, _) in GROUPS.items()),
            "",
            "Commands:",
            *_listing(COMMANDS),
            "",
            "Global Options:",
            flag_usages(flags),
            "",
            "Run 'wherry COMMAND --help' for more information on a command.",
        )
    )


def group_help(name: str) -> str:
    """What `wherry container` prints."""
    summary, commands = GROUPS[name]
    return "\n".join(
        (
            f"Usage:  wherry {name} COMMAND",
            "",
            summary,
            "",
            "Commands:",
            *_listing(commands),
            "",
            f"Run 'wherry {name} COMMAND --help' for more information on a command.",
        )
    )


def command_help(path: str, command: "Command") -> str:
    """What `wherry run --help` prints; `path` is the command as it was named."""
    lines = [f"Usage:  {command.usage_line(path)}", "", command.summary]
    if command.aliases:
        lines += ["", "Aliases:", "  " + ", ".join(f"wherry {alias}" for alias in command.aliases)]
    if any(not flag.hidden for flag in command.flags):
        lines += ["", "Options:", flag_usages(command.flags)]
    return "\n".join(lines)


def _listing(commands: "Mapping[str, tuple[str, str]]") -> "Iterable[str]":
    return (f"  {name:{_NAME_WIDTH}} {summary}" for name, (_, summary) in commands.items())


def flag_usages(flags: "Sequence[Flag]", width: int | None = None) -> str:
    """The flags, one paragraph each, sorted by name."""
    if width is None:
        try:
            width = os.get_terminal_size(0).columns
        except OSError:
            width = 80
    heads = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if flag.hidden:
            continue
        head = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        heads.append((head if flag.kind == "bool" else f"{head} {flag.kind}", flag.usage))
    indent = max(len(head) for head, _ in heads) + 3
    return "\n".join(f"{head:{indent}}{_wrapped(usage, indent, width - 1)}" for head, usage in heads)


def _wrapped(text: str, indent: int, width: int) -> str:
    room = width - indent
    first = ""
    if room < 24:
        indent, room = 16, width - 16
        first = "\n" + " " * indent
    margin = "\n" + " " * indent
    if room < 24:
        return text.replace("\n", margin)
    lines = []
    while text:
        head, text = _cut(text, room - _SLOP)
        lines.append(head.replace("\n", margin))
    return first + margin.join(lines)


def _cut(text: str, limit: int) -> "tuple[str, str]":
    """The first line of a text, and what is left."""
    if limit + _SLOP > len(text):
        return text, ""
    start = text[:limit]
    at = max(start.rfind(" "), start.rfind("\t"), start.rfind("\n"))
    if at <= 0:
        return text, ""
    newline = start.rfind("\n")
    if 0 < newline < at:
        at = newline
    return text[:at], text[at + 1 :]
