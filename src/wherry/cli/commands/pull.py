"""`pull` and `push`."""

from wherry.cli import credentials
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import line
from wherry.cli.progress import show_progress
from wherry.cli.reference import InvalidName, split
from wherry.client.http import quote
from wherry.errors import InvalidArgument
from wherry.oci.platform import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLATFORM = Flag("platform", "", "string", "Set platform if server is multi-platform capable")

_ONE_PLATFORM = (
    "Using --platform pushes only the specified platform manifest of a multi-platform image index.\n"
    "Other components, like attestations, will not be included.\n"
    "To push the complete multi-platform image, remove the --platform flag.\n"
)


def canonical(repository: str) -> str:
    """A repository with its registry, as the last line of a pull has it."""
    first, slash, _ = repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        return repository
    return f"docker.io/{repository}" if slash else f"docker.io/library/{repository}"


def _pull(command: Invocation) -> None:
    name = command.args[0]
    try:
        repository, tag, digest = split(name)
    except InvalidName as error:
        raise Failure(str(error)) from None
    if command["all-tags"]:
        if tag or digest:
            raise Failure("tag can't be used with --all-tags/-a")
    elif not tag and not digest:
        tag = "latest"
        if not command["quiet"]:
            line(f"Using default tag: {tag}")
    response = command.client.request(
        "POST",
        "/images/create",
        {"fromImage": repository, "tag": digest or tag, "platform": command["platform"]},
        headers=credentials.header(repository),
    )
    show_progress(response, quiet=command["quiet"])
    line(canonical(repository) + (f":{tag}" if tag else "") + (f"@{digest}" if digest else ""))


def _push(command: Invocation) -> None:
    name = command.args[0]
    try:
        repository, tag, digest = split(name)
    except InvalidName as error:
        raise Failure(str(error)) from None
    if digest:
        raise Failure("cannot push a digest reference")
    if command["all-tags"]:
        if tag:
            raise Failure("tag can't be used with --all-tags/-a")
    elif not tag:
        tag = "latest"
        if not command["quiet"]:
            line(f"Using default tag: {tag}")
    response = command.client.request(
        "POST",
        f"/images/{quote(repository, '/:')}/push",
        {"tag": tag, "platform": _platform(command["platform"])},
        headers=credentials.header(repository) or {"X-Registry-Auth": "e30="},
    )
    notes: list[str] = []
    show_progress(response, quiet=command["quiet"], aux=lambda found: _note(found, notes))
    if command["quiet"]:
        line(canonical(repository) + (f":{tag}" if tag else ""))
    for note in notes:
        line(_info(note))


def _platform(text: str) -> "dict[str, str] | None":
    """A platform as the engine reads it: an object."""
    if not text:
        return None
    try:
        platform = parse(text)
    except InvalidArgument as error:
        raise Failure(f"Invalid platform {text}{error}") from None
    line(_info(_ONE_PLATFORM))
    found = {"architecture": platform.architecture, "os": platform.os}
    return {**found, "variant": platform.variant} if platform.variant else found


def _info(text: str) -> str:
    """A note as Docker sets it off from the progress around it."""
    return "\n Info -> " + text.replace("\n", "\n" + " " * 9)


def _note(aux: "Any", notes: list[str]) -> None:
    if aux.get("manifestPushedInsteadOfIndex"):
        notes.append(
            "Not all multiplatform-content is present and only the available single-platform image was pushed\n"
            f"{aux['originalIndex']['digest']} -> {aux['selectedManifest']['digest']}"
        )


PULL = Command(
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    _pull,
    (
        Flag("all-tags", "a", "bool", "Download all tagged images in the repository"),
        _PLATFORM,
        Flag("quiet", "q", "bool", "Suppress verbose output"),
    ),
    arguments=(1, 1),
    aliases=("image pull", "pull"),
)
PUSH = Command(
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    _push,
    (
        Flag("all-tags", "a", "bool", "Push all tags of an image to the repository"),
        Flag(
            "platform",
            "",
            "string",
            "Push a platform-specific manifest as a single-platform image to the registry.\n"
            "Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
        Flag("quiet", "q", "bool", "Suppress verbose output"),
    ),
    arguments=(1, 1),
    aliases=("image push", "push"),
)
COMMANDS = {"pull": PULL, "image pull": PULL, "push": PUSH, "image push": PUSH}
