"""The same command lines through `docker` and `wherry`, against one dockerd: same output, words and exit codes."""

import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cgroups import controllers
from tests.cli.conftest import Docker

pytestmark = [pytest.mark.root, pytest.mark.slow]

LINES = (Path(__file__).parent / "command_lines.txt").read_text().splitlines()
# names that differ on purpose; ids and times that differ between two runs
SAME = (
    (r"wherry", "docker"),
    (r"Wherry", "Docker"),
    (r"Is dockerd running", "Is the docker daemon running"),
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short id>"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>"),
    (r"\d{4}-\d\d-\d\d [\d:.]+ \+0000 UTC", "<time>"),
    (r"(Less than a second|About a minute|About an hour|\d+ (second|minute|hour)s?)( ago)?", "<ago>"),
    (r"0x[0-9a-f]{6,}", "<pointer>"),
    (r" +", " "),
)

# the command whose wording wherry's follows; an older one says other things to a mistake, and in its help
WORDING = 28
COMPARABLE = 26
NEWER_KEYS = ('"Platform":null,', '"IPv4":"false",')
UNSORTED = ("x=y,b=c", "b=c,x=y")  # labels: in the order of a Go map before they were sorted
HELP = re.compile(r"@ help|--help|ps -h ")
# Docker's command of version 26 does not send these limits, so that it shows no warning where the host lacks them
DROPPED = "--device-read-bps"
SHELL = set(";|&<>$`")
# these change nothing: both commands may run at the same time
READS = ("@ ps", "@ inspect", "@ images", "@ image inspect", "@ history", "@ network", "@ logs", "@ port", "@ help")


def _normal(data: bytes) -> str:
    text = data.decode(errors="replace")
    for pattern, word in SAME:
        text = re.sub(pattern, word, text)
    return text


def _result(docker: Docker, line: str, program: str) -> tuple[int, str, str]:
    text = line.replace("@", program)
    words = ["bash", "-c", text] if set(text) & SHELL else shlex.split(text)
    done = subprocess.run(
        words,
        env={**docker.env, "DIR": str(docker.directory), "FROMENV": "yes"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, _normal(done.stdout), _normal(done.stderr)


def _outline(result: tuple[int, str, str]) -> tuple[int, str, str]:
    """What a docker command of an older version agrees on: the code, and the output of what went well."""
    code, output, error = result
    for key in NEWER_KEYS:
        output = output.replace(key, "")
    return code, output.replace(*UNSORTED), "" if code else error


def test_same_words_as_docker(docker: Docker) -> None:
    """Every command line does through wherry what it does through docker, with the words of its version 28."""
    version = docker.run("docker", "version", "--format", "{{.Client.Version}}").stdout.decode()
    major = int(version.partition(".")[0])
    assert major >= COMPARABLE, f"the command's words are those of docker {WORDING}; this is {version}"
    setup = (
        "docker run -d --name a1 -l x=y -l b=c -e FOO=bar busybox sh -c 'echo hi; sleep 0.05; echo err >&2; sleep 600'"
    )
    assert _result(docker, setup, "docker")[0] == 0
    different = []
    pool = ThreadPoolExecutor(2)
    for line in LINES:
        if not line or line.startswith("#"):
            continue
        programs = ("docker", "wherry")
        if DROPPED in line and major < WORDING and "io" not in controllers():
            continue
        if line.startswith(READS) and not set(line) & SHELL:
            expected, found = pool.map(lambda program, line=line: _result(docker, line, program), programs)
        else:
            expected, found = (_result(docker, line, program) for program in programs)
        if major < WORDING:
            if HELP.search(line):
                continue
            expected, found = _outline(expected), _outline(found)
        if expected != found:
            different.append(f"{line}\n  docker: {expected}\n  wherry: {found}")
    pool.shutdown()
    assert not different, "\n".join(different)
