"""`events`: what happens in the engine, as it happens."""

from wherry.cli.commands.common import FILTER, INSPECT_FORMAT
from wherry.cli.commands.logs import moment
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.govalues import to_json
from wherry.cli.output import line
from wherry.cli.template import Template, TemplateError
from wherry.values import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _stamp(event: "dict[str, Any]") -> str:
    nanoseconds = event.get("timeNano") or event.get("time", 0) * 10**9
    seconds, fraction = divmod(nanoseconds, 10**9)
    return times.local(seconds, f".{fraction:09d}")


def _plain(event: "dict[str, Any]") -> str:
    actor = event.get("Actor") or {}
    text = f"{_stamp(event)} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    attributes = actor.get("Attributes") or {}
    if attributes:
        text += " (" + ", ".join(f"{key}={value}" for key, value in sorted(attributes.items())) + ")"
    return text


def _events(command: Invocation) -> None:
    format_ = command["format"]
    template = None
    if format_ and format_ != "json":
        try:
            template = Template(format_)
        except TemplateError as error:
            raise Failure(f"Error parsing format: {error}", 64) from None
    filters = command.values.filters()
    response = command.client.request(
        "GET",
        "/events",
        {"since": moment(command["since"]), "until": moment(command["until"]), "filters": filters or None},
    )
    for event in response.documents():
        if template is not None:
            try:
                line(template.execute({**event, "ID": event.get("id", ""), "TimeNano": event.get("timeNano", 0)}))
            except TemplateError as error:
                raise Failure(str(error)) from None
        else:
            line(to_json(event) if format_ else _plain(event))


EVENTS = Command(
    "[OPTIONS]",
    "Get real time events from the server",
    _events,
    (
        FILTER,
        Flag("format", "", "string", INSPECT_FORMAT.usage),
        Flag("since", "", "string", "Show all events created since timestamp"),
        Flag("until", "", "string", "Stream events until this timestamp"),
    ),
    aliases=("system events", "events"),
)
COMMANDS = {"events": EVENTS, "system events": EVENTS}
