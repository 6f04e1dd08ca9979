"""The cache: what is found again, what is not, and that it is counted, pruned and bounded."""

import json
import os
from pathlib import Path

import pytest

from tests.build.conftest import Context
from tests.build.test_wherry import build
from tests.e2e.harness import EngineProcess

pytestmark = pytest.mark.root


def test_the_key_is_content_and_metadata_never_time(context: Context) -> None:
    """A new time or inode is a hit; other content, mode or name is none."""
    file = context.write("f", "1", 0o644)
    dockerfile = "FROM busybox\nCOPY f /x\nCOPY . /all/\n"
    build(context, dockerfile)
    os.utime(file, (1, 1))
    assert build(context, dockerfile).err.count("CACHED") == 3
    file.chmod(0o600)
    assert build(context, dockerfile).err.count("CACHED") == 1
    context.write("g", "other")
    assert build(context, dockerfile).err.count("CACHED") == 2


def test_files_of_another_stage_count_by_their_content(context: Context) -> None:
    """A stage that is made anew and gives the same files leaves what copies them known."""
    dockerfile = (
        "FROM busybox AS a\nARG N\nRUN echo $N > /log && echo same > /f\n"
        "FROM busybox\nCOPY --from=a /f /f\nRUN cat /f > /g\n"
    )
    build(context, dockerfile, "--build-arg", "N=1")
    again = build(context, dockerfile, "--build-arg", "N=2").err
    assert "[a 2/2] RUN echo $N > /log && echo same > /f" in again
    assert again.count("CACHED") == 3  # FROM, COPY and the last RUN


def test_a_filter_makes_one_stage_anew(context: Context) -> None:
    """`--no-cache-filter` does the steps of that stage only; `--no-cache` does all."""
    dockerfile = "FROM busybox AS a\nRUN echo 1 > /f\nFROM busybox AS b\nRUN echo 2 > /f\nFROM b\nCOPY --from=a /f /g\n"
    build(context, dockerfile)
    one = build(context, dockerfile, "--no-cache-filter", "a").err
    assert one.count("CACHED") == 3  # FROM, the step of b, and COPY: its file is the same
    assert build(context, dockerfile, "--no-cache").err.count("CACHED") == 1


def test_a_pulled_image_never_answers_for_a_step(context: Context, engine: EngineProcess) -> None:
    """CVE-2024-24557 (attack 42): an image whose history claims a step is no cache of it."""
    context.docker("FROM busybox\nRUN echo evil > /f\n", "-t", "evil")
    archive = engine.run("docker", "save", "evil")
    assert archive.code == 0
    context.docker("FROM busybox\nRUN echo good > /f\n", "-t", "good")
    config = json.loads(engine.docker("image", "inspect", "evil").out)[0]
    assert config["RootFS"]["Layers"]
    # an import whose config says what an honest build would: nothing but our own records is asked
    engine.docker("commit", "-c", "CMD ['x']", engine.docker("create", "evil").out.strip(), "claims")
    engine.docker("builder", "prune", "-af")
    done = context.docker("FROM busybox\nRUN echo good > /f\n", "-t", "again", "--cache-from", "claims")
    assert "Using cache" not in done.out
    assert context.run("again", "cat", "/f") == "good\n"


def test_a_base_with_another_configuration_is_another_image(context: Context) -> None:
    """CVE-2024-24557: HEALTHCHECK and ONBUILD of a base take effect although its layers are the same."""
    context.docker("FROM busybox\nRUN true > /a\n", "-t", "base:1")
    context.docker("FROM base:1\nRUN echo 1 > /f\n", "-t", "on:1")
    context.docker(
        "FROM busybox\nRUN true > /a\nHEALTHCHECK CMD true\nONBUILD RUN echo triggered > /t\n", "-t", "base:1"
    )
    context.docker("FROM base:1\nRUN echo 1 > /f\n", "-t", "on:2")
    found = json.loads(context.engine.docker("image", "inspect", "on:2").out)[0]["Config"]
    assert found["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    assert context.run("on:2", "cat", "/t", "/f") == "triggered\n1\n"


def test_the_cache_survives_a_restart_and_is_pruned(own_engine: EngineProcess, tmp_path: Path) -> None:
    """After a restart every step is known; `builder prune` forgets what no image has, `-a` all; it is counted."""
    context = Context(tmp_path, own_engine)
    dockerfile = "FROM busybox AS a\nRUN yes wherry | head -c 300000 > /big\nFROM busybox\nCOPY --from=a /big /b\n"
    context.docker(dockerfile, "-t", "kept")
    own_engine.stop()
    own_engine.start()
    assert context.docker(dockerfile).out.count("Using cache") == 2
    own_engine.stop()
    own_engine.start()
    usage = json.loads(own_engine.run("curl", "-s", "--unix-socket", own_engine.roots.socket, "http://x/system/df").out)
    sizes = [entry["Size"] for entry in usage["BuildCache"] if entry["Type"] == "regular"]
    assert sorted(size >= 300000 for size in sizes) == [True, True]
    assert [entry["UsageCount"] for entry in usage["BuildCache"] if entry["Type"] == "regular"] == [1, 1]
    context.docker("FROM busybox\nRUN --mount=type=cache,id=big,target=/c head -c 5000 /dev/zero > /c/f\n")
    usage = json.loads(own_engine.run("curl", "-s", "--unix-socket", own_engine.roots.socket, "http://x/system/df").out)
    assert [entry["Size"] for entry in usage["BuildCache"] if entry["Type"] == "exec.cachemount"] == [5000]
    assert "Total reclaimed space: 305kB" in own_engine.docker("builder", "prune", "-f").out
    assert context.docker(dockerfile).out.count("Using cache") == 1
    own_engine.docker("builder", "prune", "-af")
    assert "Using cache" not in context.docker(dockerfile).out


def test_a_step_that_changes_nothing_takes_no_space(context: Context, engine: EngineProcess) -> None:
    """A step without a layer is in the cache with a size of 0; one that writes a file has one."""
    context.docker("FROM busybox\nRUN : changes nothing\nRUN printf x > /one\n")
    usage = json.loads(engine.run("curl", "-s", "--unix-socket", engine.roots.socket, "http://x/system/df").out)
    sizes = {entry["Description"]: entry["Size"] for entry in usage["BuildCache"]}
    found = {words: size for text, size in sizes.items() for words in ("changes nothing", "printf x") if words in text}
    assert (found["changes nothing"], found["printf x"] > 0) == (0, True)


def test_the_same_input_and_epoch_give_the_same_digest(
    context: Context, engine: EngineProcess, own_engine: EngineProcess
) -> None:
    """With SOURCE_DATE_EPOCH two builds without cache, at different times, are one image; another engine's too."""
    context.write("f", "1")
    dockerfile = "FROM busybox\nCOPY f /f\nRUN echo 1 > /g && mkdir -p /d/e && touch /d/e/h\nWORKDIR /w\n"
    ids = set()
    for builder in (context, context, Context(context.directory, own_engine)):
        os.utime(context.directory / "f")
        ids.add(build(builder, dockerfile, "-q", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000").out)
    assert len(ids) == 1
    found = json.loads(engine.docker("image", "inspect", ids.pop().strip()).out)[0]
    assert found["Created"].startswith("2023-11-14T22:13:20")


def test_a_cache_goes_to_a_directory_and_comes_back(
    context: Context, tmp_path: Path, own_engine: EngineProcess
) -> None:
    """`--cache-to type=local` of all stages; another engine that has nothing else finds every step in it."""
    dockerfile = "FROM busybox AS a\nRUN yes a | head -c 5000 > /f\n"
    dockerfile += "FROM busybox\nCOPY --from=a /f /g\nRUN true\nRUN cat /g > /h\n"
    build(context, dockerfile, "--cache-to", f"type=local,dest={tmp_path}/cache,mode=max")
    assert (tmp_path / "cache/index.json").exists()
    other = Context(context.directory, own_engine)
    done = build(other, dockerfile, "--cache-from", f"type=local,src={tmp_path}/cache", "-t", "elsewhere")
    assert done.err.count("CACHED") == 5
    assert other.run("elsewhere", "sh", "-c", "wc -c < /h") == "5000\n"


def test_an_inline_cache_is_in_the_image(context: Context, tmp_path: Path, own_engine: EngineProcess) -> None:
    """`--cache-to inline`: an engine that only has the image knows its steps, if it is told to ask it."""
    dockerfile = "FROM busybox\nRUN yes b | head -c 5000 > /f\n"
    build(context, dockerfile, "-t", "inlined", "--cache-to", "inline")
    archive = tmp_path / "image.tar"
    context.engine.docker("save", "-o", str(archive), "inlined")
    own_engine.docker("load", "-i", str(archive))
    other = Context(context.directory, own_engine)
    assert build(other, dockerfile).err.count("CACHED") == 1
    own_engine.docker("builder", "prune", "-af")
    assert other.docker(dockerfile, "--cache-from", "inlined").out.count("Using cache") == 1
