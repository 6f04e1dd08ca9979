"""`manifest inspect`: what a registry has under a name, without pulling it."""

from wherry.cli import credentials
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import out
from wherry.cli.reference import InvalidName, split
from wherry.client.errors import ServerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


def _inspect(command: Invocation) -> None:
    names = command.args
    if len(names) > 1:
        # lists that are made on this machine before they are pushed: there are none
        raise Failure(f"No such manifest: {names[1]}")
    try:
        repository, _, _ = split(names[0])
    except InvalidName as error:
        raise Failure(str(error)) from None
    query = {
        "name": names[0],
        "insecure": command["insecure"] or None,
        "verbose": command["verbose"] or None,
    }
    try:
        found = command.client.request(
            "GET", "/wherry/v1/manifest", query, headers=credentials.header(repository)
        ).json()
    except ServerError as error:
        if error.status == 404:  # in the words of a client that asks the registry itself
            raise Failure(str(error).removeprefix("Error response from daemon: ")) from None
        raise
    from json import dumps

    from wherry.cli.jsontext import indented

    if command["verbose"]:
        several = found.get("Manifests")
        shown: Any = [_entry(one) for one in several] if several is not None else _entry(found)
        out(indented(dumps(shown, ensure_ascii=False).encode(), "\t") + "\n")
        return
    raw = _raw(found)
    if "Manifests" in found:
        out(indented(_list(raw), "   ") + "\n")
    else:
        out(indented(raw, "\t") + "\n")


def _raw(found: "dict[str, Any]") -> bytes:
    from binascii import a2b_base64

    return a2b_base64(found["Raw"])


def _entry(found: "dict[str, Any]") -> "dict[str, Any]":
    from json import loads

    kind = "SchemaV2Manifest" if found["Descriptor"]["mediaType"] == _DOCKER else "OCIManifest"
    return {"Ref": found["Ref"], "Descriptor": found["Descriptor"], "Raw": found["Raw"], kind: loads(_raw(found))}


def _list(raw: bytes) -> bytes:
    """An index with the keys that Docker shows of one."""
    from json import dumps, loads

    document = loads(raw)
    entries = [
        {key: entry[key] for key in ("mediaType", "size", "digest", "platform") if key in entry}
        for entry in document.get("manifests") or ()
    ]
    shown = {key: document[key] for key in ("schemaVersion", "mediaType") if key in document}
    return dumps({**shown, "manifests": entries}).encode()


COMMANDS = {
    "manifest inspect": Command(
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        "Display an image manifest, or manifest list",
        _inspect,
        (
            Flag("insecure", "", "bool", "Allow communication with an insecure registry"),
            Flag("verbose", "v", "bool", "Output additional info including layers and platform"),
        ),
        arguments=(1, 2),
    )
}
