"""What a Dockerfile takes and offers, without building: `--call=outline` and `--call=targets`, as BuildKit tells them.

A description is the comment above an ARG or FROM that begins with its name.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence

from wherry.builder.language import commands as c
from wherry.builder.language.errors import Location
from wherry.builder.language.instructions import parse_stages
from wherry.builder.language.parser import parse
from wherry.builder.language.stages import Plan, plan
from wherry.builder.language.variables import Globals, StageScope
from wherry.oci import platform as platforms
from wherry.values.jsontypes import Json

CALLS = ("outline", "targets")


def answer(
    call: str,
    data: bytes,
    name: str,
    *,
    build_args: Mapping[str, str],
    target: str = "",
    platform: str = "",
    contexts: Sequence[str] = (),
) -> tuple[Json, str]:
    """Answer a call.

    Args:
        call: one of `CALLS`.
        data: the Dockerfile.
        name: what it is called in messages.
        build_args: of `--build-arg`.
        target: `--target`.
        platform: `--platform`.
        contexts: names of `--build-context`.

    Returns:
        (BuildKit's JSON document, the same for people).

    Raises:
        DockerfileError: it is wrong; or there is no such target.
    """
    document = parse(data, name)
    program = parse_stages(document)
    here = platforms.host()
    shared = Globals(
        build_args=build_args,
        build_platform=here,
        target_platform=platforms.parse(platform) if platform else here,
        target=target,
        escape=document.escape,
    )
    shared.declare(program.meta_args)
    found = plan(program.stages, shared, target=target, contexts=contexts)
    if call == "targets":
        value = _targets(program.stages)
    else:
        value = _outline(program.stages, found, shared, program.meta_args)
    value["sources"] = [base64.b64encode(data).decode()]
    return value, _targets_text(value) if call == "targets" else _outline_text(value)


# -- targets


def _targets(stages: Sequence[c.Stage]) -> Json:
    listed = []
    for stage in stages:
        entry: Json = {}
        if stage.name:
            entry["name"] = stage.name
        if stage.description:
            entry["description"] = stage.description
        if stage is stages[-1]:
            entry["default"] = True
        listed.append({**entry, "base": stage.base_name, "location": _location(stage.location)})
    return {"targets": listed}


def _targets_text(value: Json) -> str:
    rows = [("TARGET", "DESCRIPTION")]
    for entry in value["targets"]:
        words = [entry.get("name", ""), "(default)" if entry.get("default") else ""]
        rows.append((" ".join(word for word in words if word), entry.get("description", "")))
    return _table(rows, 1)


# -- outline


class _Taken:
    """What the stages of a build take, those that the target is made of included."""

    def __init__(self, shared: Globals, meta_args: Iterable[c.Arg]) -> None:
        self.args: dict[str, Json] = {}
        self.secrets: dict[str, Json] = {}
        self.ssh: dict[str, Json] = {}
        self._shared = shared
        self._meta = {pair.key: (pair, arg) for arg in meta_args for pair in arg.args}

    def meta(self, name: str) -> None:
        """An ARG above the first FROM is used."""
        if name in self._meta and name not in self.args:
            pair, arg = self._meta[name]
            self.args[name] = _arg(name, pair.description, self._shared.values.get(name), arg.location)

    def arg(self, written: c.Arg, effective: c.Arg) -> None:
        """A stage declares ARGs; one that only takes over a global one is that one."""
        for pair, real in zip(written.args, effective.args, strict=True):
            if pair.value is None and pair.key not in self._shared.build_args and pair.key in self._shared.values:
                self.meta(pair.key)
            elif pair.key not in self.args:
                self.args[pair.key] = _arg(pair.key, pair.description, real.value, written.location)

    def mounts(self, run: c.Run) -> None:
        """A RUN mounts secrets and agents."""
        for mount in run.mounts:
            if mount.type == "secret":
                id_ = mount.id or mount.source or mount.target.rpartition("/")[2]
                _require(self.secrets, id_, mount.required, run.location)
            elif mount.type == "ssh":
                _require(self.ssh, mount.id or "default", mount.required, run.location)


def _arg(name: str, description: str, value: str | None, location: Location) -> Json:
    return {
        "name": name,
        **({"description": description} if description else {}),
        **({"value": value} if value else {}),
        "location": _location(location),
    }


def _require(known: dict[str, Json], name: str, required: bool, location: Location) -> None:
    entry = known.setdefault(name, {"name": name, "location": _location(location)})
    if required and not entry.get("required"):
        known[name] = {"name": name, "required": True, "location": entry["location"]}


def _outline(stages: Sequence[c.Stage], found: Plan, shared: Globals, meta_args: Iterable[c.Arg]) -> Json:
    taken = _Taken(shared, meta_args)
    # what the target says of an ARG counts before what the stages say that it is made of
    scopes: dict[int, StageScope] = {}
    told: dict[int, list[tuple[c.Command, c.Command]]] = {}
    for index in found.needed:
        planned = found.stages[index]
        parent = scopes.get(planned.base.stage) if planned.base.kind == "stage" else None
        scope = scopes[index] = parent.child() if parent is not None else StageScope.begin(shared, {})
        if not planned.replaced:
            told[index] = [(command, scope.apply(command)) for command in planned.stage.commands]
    for index in reversed(found.needed):
        stage = stages[index]  # as written: a plan has its words expanded
        for word in (stage.base_name, stage.platform):
            for name in shared.expand(word).matched:
                taken.meta(name)
        for written, effective in told.get(index, ()):
            if isinstance(written, c.Arg) and isinstance(effective, c.Arg):
                taken.arg(written, effective)
            elif isinstance(effective, c.Run):
                taken.mounts(effective)
    target = found.stages[found.target].stage
    value: Json = {}
    if target.name:
        value["name"] = target.name
    if target.description:
        value["description"] = target.description
    if taken.args:
        value["args"] = sorted(taken.args.values(), key=_line)
    for key, known in (("secrets", taken.secrets), ("ssh", taken.ssh)):
        if known:
            value[key] = [known[name] for name in sorted(known)]
    return value


def _outline_text(value: Json) -> str:
    blocks = []
    if value.get("name") or value.get("description"):
        head = [("TARGET:", value.get("name") or "(default)")]
        if value.get("description"):
            head.append(("DESCRIPTION:", value["description"]))
        blocks.append(_table(head, 1))
    if value.get("args"):
        rows = [(arg["name"], arg.get("value", ""), arg.get("description", "")) for arg in value["args"]]
        blocks.append(_table([("BUILD ARG", "VALUE", "DESCRIPTION"), *rows], 3))
    for key, head_word in (("secrets", "SECRET"), ("ssh", "SSH")):
        if value.get(key):
            rows_ = [(entry["name"], "true" if entry.get("required") else "") for entry in value[key]]
            blocks.append(_table([(head_word, "REQUIRED"), *rows_], 3))
    return "".join(f"{block}\n" for block in blocks)


def _table(rows: Sequence[Sequence[str]], gap: int) -> str:
    widths = [max(len(row[column]) for row in rows) + gap for column in range(len(rows[0]) - 1)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n" for row in rows
    )


def _location(location: Location) -> Json:
    start, end = location
    return {"ranges": [{"start": {"line": start}, "end": {"line": end}}]}


def _line(entry: Json) -> int:
    line: int = entry["location"]["ranges"][0]["start"]["line"]
    return line
