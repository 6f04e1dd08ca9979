"""What `wherry build` tells without building, and what it says of an image beside its configuration."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.build.conftest import Context
from tests.build.test_wherry import build

pytestmark = pytest.mark.root

STAGES = (
    "# base is first\nFROM busybox AS base\n# A is an arg\nARG A=b\nFROM base AS last\nRUN --mount=type=secret,id=s x\n"
)


def test_calls_tell_of_a_dockerfile(context: Context) -> None:
    """Targets and outline, for people and as JSON; a check is one too; nothing is built."""
    targets = build(context, STAGES, "--call=targets").out
    assert targets == "TARGET         DESCRIPTION\nbase           is first\nlast (default) \n"
    outline = build(context, STAGES, "--call", "outline", "--build-arg", "A=c").out
    assert outline.splitlines()[2:] == [
        "BUILD ARG   VALUE   DESCRIPTION",
        "A           c       is an arg",
        "",
        "SECRET   REQUIRED",
        "s        ",
        "",
    ]
    value = json.loads(build(context, STAGES, "--call=outline,format=json").out)
    assert [arg["name"] for arg in value["args"]] == ["A"]
    assert value["secrets"] == [{"name": "s", "location": {"ranges": [{"start": {"line": 6}, "end": {"line": 6}}]}}]
    assert "no warnings" in build(context, "FROM scratch\nCOPY x /\n", "--call=check").out
    assert "rules" not in build(context, "from scratch\nCOPY x /\n", "--call=check,format=json", code=1).out[:10]
    here = f"type=local,src={context.directory}"
    assert "last" in build(context, STAGES, "--call=targets", "--cache-from", here, "--cache-to", "inline").out
    assert 'target stage "x" could not be found' in build(context, STAGES, "--call=outline", "--target=x", code=1).err
    assert "unsupported request frontend.x" in build(context, STAGES, "--call=x", code=1).err


def test_annotations_are_in_the_manifest(context: Context, tmp_path: Path) -> None:
    """Of the flag and of an exporter; a second build of the same image can have others."""
    for value in ("one", "two"):
        to = f"type=oci,dest={tmp_path}/{value}.tar,annotation.made.by=us"
        build(context, "FROM busybox\nRUN true\n", "-t", "annotated", "-o", to, "--annotation", f"manifest:n={value}")
        with tarfile.open(tmp_path / f"{value}.tar") as archive:

            def read(name: str, archive: tarfile.TarFile = archive) -> dict[str, Any]:
                member = archive.extractfile(name)
                assert member is not None
                found: dict[str, Any] = json.loads(member.read())
                return found

            digest = read("index.json")["manifests"][0]["digest"].partition(":")[2]
            assert read(f"blobs/sha256/{digest}")["annotations"] == {"made.by": "us", "n": value}
    done = build(context, "FROM busybox\n", "--annotation", "index:a=b", code=None)
    assert "index annotations not supported for single platform export" in done.err
    assert 'invalid annotation "foo", expected key=value' in build(context, STAGES, "--annotation=foo", code=None).err
    assert 'unknown annotation type "foo"' in build(context, STAGES, "--annotation=foo:a=b", code=None).err


def test_attestations_can_only_be_switched_off(context: Context) -> None:
    """What would be made is refused by name; what says that nothing is to be made is taken."""
    off = ("--provenance=false", "--sbom=false", "--attest=type=provenance,disabled=true")
    build(context, "FROM busybox\nRUN true\n", *off)
    for flag in ("--provenance=true", "--provenance=mode=max", "--sbom=true", "--attest=type=sbom"):
        done = build(context, "FROM busybox\n", flag, code=None)
        assert done.code
        assert "attestations are not supported" in done.err
