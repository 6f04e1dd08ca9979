"""`POST /build` as the docker command and docker-py use it, on real containers."""

import io
import json
import os
import re
from pathlib import Path

import docker as docker_py
import pytest

from tests.build.conftest import CLASSIC, Context, tar_of
from tests.e2e.harness import EngineProcess

pytestmark = pytest.mark.root

SIX = """
FROM busybox
WORKDIR /app
COPY hello.txt .
RUN cat hello.txt > out && echo to-stderr >&2
ENV A=b
CMD ["cat", "out"]
"""


def test_a_build_tells_its_steps_and_makes_what_it_says(context: Context) -> None:
    """Six steps: every one is told in the classic builder's words, and the image does what they say."""
    context.write("hello.txt", "hello")
    done = context.docker(SIX, "-t", "six:one", "-t", "six:two")
    for number, text in enumerate(SIX.strip().splitlines(), 1):
        assert f"Step {number}/6 : {text}" in done.out
    assert re.search(r" ---> Running in [0-9a-f]{12}\n", done.out)
    assert "to-stderr" in done.out
    assert "Successfully tagged six:one\nSuccessfully tagged six:two\n" in done.out
    built = re.search(r" ---> ([0-9a-f]{12})\nSuccessfully built ([0-9a-f]{12})\n", done.out)
    assert built is not None
    assert built[1] == built[2]
    assert context.run("six:one") == "hello"
    assert context.run("six:two", "sh", "-c", "pwd; echo $A; ls -A /app") == "/app\nb\nhello.txt\nout\n"


def test_a_second_build_does_nothing_and_gives_the_same_image(context: Context) -> None:
    """What was built is found again by its content, a touched file included; a changed one is built anew."""
    file = context.write("hello.txt", "hello")
    first = context.docker(SIX, "-q").out
    file.touch()
    again = context.docker(SIX)
    assert again.out.count("Using cache") == 5
    assert "Running in" not in again.out
    assert context.docker(SIX, "-q").out == first
    context.write("hello.txt", "other")
    changed = context.docker(SIX)
    assert changed.out.count("Using cache") == 1
    assert "Running in" in changed.out
    other = SIX.replace('"cat", "out"', '"cat", "hello.txt"')
    assert context.docker(other).out.count("Using cache") == 3
    context.docker(other.replace("A=b", "A=c"))
    assert context.docker(other.replace("A=b", "A=c")).out.count("Using cache") == 5
    # that of which the end is new was not seen before, but for what a known step stands on
    assert context.docker(other + "LABEL l=1\n").out.count("Using cache") == 3
    assert context.docker(SIX, "-q", "--no-cache").out != first


def test_a_failing_step_ends_the_build_with_its_code_and_leaves_nothing(
    context: Context, engine: EngineProcess
) -> None:
    """The docker command ends with the step's code, the words are Docker's, and no sandbox is left."""
    done = context.docker("FROM busybox\nRUN echo before\nRUN exit 7\n", "-t", "never", code=7)
    assert "The command '/bin/sh -c exit 7' returned a non-zero code: 7" in done.err
    assert engine.docker("images", "-q", "never").out == ""
    assert engine.docker("ps", "-aq").out == ""
    engine.assert_nothing_runs()


def test_wrong_dockerfiles_are_refused_in_buildkits_words(context: Context) -> None:
    """A syntax error names its line; a missing source its name."""
    assert (
        "dockerfile parse error on line 2: unknown instruction: FOO"
        in context.docker("FROM busybox\nFOO bar\n", code=1).err
    )
    assert "nope" in context.docker("FROM busybox\nCOPY nope /\n", code=1).err
    assert "no such stage" in context.docker("FROM busybox\n", "--target", "no such stage", code=1).err.lower()


def test_only_needed_stages_run_and_files_come_from_others(context: Context) -> None:
    """A stage that the target does not use is not run; what it uses is copied with its owner and mode."""
    done = context.docker(
        "FROM busybox AS unused\nRUN exit 3\n"
        "FROM busybox AS made\nRUN mkdir /d && echo x > /d/f && chmod 640 /d/f && chown 5:6 /d/f\n"
        "FROM scratch\nCOPY --from=made /d /e\nCOPY --from=busybox /bin/busybox /bin/sh\n",
        "-t",
        "staged",
    )
    assert "exit 3" not in done.out
    # the shell alone: no /bin/ls in it
    shown = context.run("staged", "/bin/sh", "-c", "busybox stat -c '%a %u %g %n' /e/f 2>/dev/null || echo none")
    assert shown in ("640 5 6 /e/f\n", "none\n")


def test_docker_py_builds_from_an_archive(engine: EngineProcess) -> None:
    """docker-py sends an archive of its own and finds the image by what the stream says."""
    client = docker_py.DockerClient(base_url=engine.host)
    try:
        archive = tar_of({"Dockerfile": b"FROM busybox\nARG WHAT\nRUN echo $WHAT > /x\n", "a": b"1"})
        image, log = client.images.build(
            fileobj=io.BytesIO(archive), custom_context=True, tag="py:1", buildargs={"WHAT": "that"}, labels={"l": "1"}
        )
        assert image.labels == {"l": "1"}
        assert any("Successfully built" in line.get("stream", "") for line in log)
        assert engine.docker("run", "--rm", "py:1", "cat", "/x").out == "that\n"
    finally:
        client.images.remove("py:1", force=True)
        client.close()


def test_limits_network_and_hosts_reach_the_step(context: Context) -> None:
    """Memory, shm size, extra hosts and the network of the request hold in RUN."""
    done = context.docker(
        "FROM busybox\nRUN df -k /dev/shm | tail -1; cat /etc/hosts; ls /sys/class/net\n",
        "--shm-size=8m",
        "--add-host=other:10.9.8.7",
        "--network=none",
    )
    assert re.search(r"shm\s+8192", done.out)
    assert "10.9.8.7\tother" in done.out
    assert "eth0" not in done.out


def test_the_configuration_and_history_are_what_the_instructions_say(context: Context) -> None:
    """Every instruction that makes no layer ends in the configuration, and in the classic builder's history."""
    context.docker(
        "FROM busybox\nLABEL a=b c='d e'\nEXPOSE 80 53/udp\nVOLUME /v\nUSER 5:6\nSTOPSIGNAL SIGINT\n"
        'HEALTHCHECK --interval=3s CMD true\nENTRYPOINT ["/bin/echo"]\nCMD x y\nSHELL ["/bin/ash", "-c"]\n'
        "ONBUILD RUN true\nMAINTAINER me\n",
        "-t",
        "configured",
    )
    found = json.loads(context.engine.docker("image", "inspect", "configured").out)[0]
    config = found["Config"]
    assert config["Labels"] == {"a": "b", "c": "d e"}
    assert config["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}}
    assert config["Volumes"] == {"/v": {}}
    assert (config["User"], config["StopSignal"], found["Author"]) == ("5:6", "SIGINT", "me")
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 3_000_000_000}
    assert (config["Entrypoint"], config["Cmd"]) == (["/bin/echo"], ["/bin/sh", "-c", "x y"])
    assert (config["Shell"], config["OnBuild"]) == (["/bin/ash", "-c"], ["RUN true"])
    history = context.engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "configured").out
    assert "/bin/sh -c #(nop)  LABEL a=b c=d e\n" in history
    assert '/bin/sh -c #(nop)  ENTRYPOINT ["/bin/echo"]\n' in history
    assert "/bin/sh -c #(nop)  EXPOSE 53/udp 80\n" in history


def test_dockerignore_hides_itself_and_the_dockerfile(context: Context) -> None:
    """The docker command sends both all the same; the tree has them only where they are not named."""
    dockerfile = "FROM busybox\nCOPY . /c\nRUN cd /c && find . -type f | sort > /list\n"
    for name in ("a", "b"):
        context.write(name, name)
    for size in (0, 2_000_000):  # a small context is kept in memory, a large one is not
        context.write("a", "x" * size)
        for ignore, left in (("*\n!a\n", ["./a"]), ("b\n", ["./.dockerignore", "./Dockerfile", "./a"])):
            (context.directory / ".dockerignore").write_text(ignore)
            context.docker(dockerfile, "-t", "hidden")
            assert context.run("hidden", "cat", "/list").split() == left


@pytest.mark.parametrize("size", [5, 512, 70_000])
def test_a_dockerfile_from_elsewhere_or_from_stdin(context: Context, tmp_path: Path, size: int) -> None:
    """The archives that the docker command makes then end behind the last file's bytes, without padding."""
    context.write("hello.txt", "x" * size)
    dockerfile = f"FROM busybox\nCOPY . /c/\n# {size}\nRUN ls -A /c && wc -c < /c/hello.txt\n"
    (tmp_path / "elsewhere").write_text(dockerfile)
    for flags, stdin in ((("-f", str(tmp_path / "elsewhere")), None), (("-f", "-"), dockerfile.encode())):
        argv = ("docker", "build", "--no-cache", *flags, str(context.directory))
        done = context.engine.run(*argv, env=CLASSIC, stdin=stdin)
        assert f"hello.txt\n{size}\n" in done.out


def test_the_time_of_a_copied_directory(context: Context) -> None:
    """A destination that COPY makes has its source's time; one that was there is changed by what comes into it."""
    context.write("d/hello.txt", "hello")
    os.utime(context.directory / "d", (1_000_000_000, 1_000_000_000))
    context.docker(
        "FROM busybox\nRUN mkdir /old && touch -d @900000000 /old\nCOPY d /new/\nCOPY d /old/\n", "-t", "timed"
    )
    new, old = context.run("timed", "stat", "-c", "%Y", "/new", "/old").split()
    assert new == "1000000000"
    assert int(old) > 1_000_000_000
