"""An application as people build it: a C program, Python wheels, Debian; built, run, pushed, pulled and run again.

The first run makes two trees of Debian's packages, which takes a minute and stays in the tests' cache.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import debian
from tests.build.conftest import Context
from tests.e2e.harness import EngineProcess
from tests.images.test_push_index import Ours

pytestmark = [pytest.mark.root, pytest.mark.slow]

DOCKERFILE = """# syntax=docker/dockerfile:1
ARG OPTIMIZE=-O2

FROM toolchain AS compile
ARG OPTIMIZE
WORKDIR /src
COPY src/count.h src/count.c ./
RUN gcc $OPTIMIZE -Wall -Werror -c count.c
COPY src/main.c .
RUN --mount=type=cache,target=/var/cache/objects \\
    gcc $OPTIMIZE -Wall -Werror -o /count main.c count.o && cp /count /var/cache/objects/
RUN test "$(printf 'a b  c\\nd' | /count)" -eq 4

FROM toolchain AS wheels
COPY wheels /wheels
RUN --network=none python3 "$(echo /usr/share/python-wheels/pip-*.whl)/pip" install \\
    --quiet --no-index --find-links /wheels --target /opt/app report
RUN find /opt/app -name '*.dist-info' -prune -o -type f -print | grep -c . > /opt/app/files

FROM debian
ENV PYTHONPATH=/opt/app LANG=C.UTF-8
RUN echo 'app:x:1000:1000::/home/app:/bin/sh' >> /etc/passwd && echo 'app:x:1000:' >> /etc/group
WORKDIR /home/app
COPY --from=compile --chmod=0755 /count /usr/local/bin/
COPY --from=wheels --link /opt/app /opt/app
COPY --chown=app:app <<'END' run.py
import os, sys, report
print(report.text(sys.argv[1]), "by", os.getuid(), "in", os.getcwd())
END
RUN python3 run.py 'built in a step' > built && chown app built
LABEL org.opencontainers.image.title=report
USER app
HEALTHCHECK --interval=5s CMD ["python3", "-c", "import report"]
ENTRYPOINT ["python3", "run.py"]
CMD ["one two three"]
"""
STEPS = 15
SOURCES = {
    "src/count.h": "int count(int (*next)(void));\n",
    "src/count.c": """#include <ctype.h>
#include "count.h"
int count(int (*next)(void)) {
    int words = 0, inside = 0, c;
    while ((c = next()) >= 0) {
        words += !isspace(c) && !inside;
        inside = !isspace(c);
    }
    return words;
}
""",
    "src/main.c": """#include <stdio.h>
#include "count.h"
int main(void) { printf("%d\\n", count(getchar)); return 0; }
""",
}
REPORT = """import shout, subprocess
def text(line):
    words = subprocess.run(["count"], input=line, capture_output=True, text=True, check=True).stdout.strip()
    return f"{shout.loud(line)}: {words} words"
"""


def _wheel(name: str, version: str, source: str, requires: str = "") -> bytes:
    """A wheel of one module."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return out.getvalue()


@pytest.fixture(scope="module")
def bases() -> tuple[Path, Path]:
    """Trees with a compiler, and with Python only; both made at once."""
    sanitizers = ("/usr/lib/gcc/*/lto1", "/usr/bin/*-lto-dump-*", "/usr/lib/*/lib?san.*", "/usr/lib/*san.a")
    compiler = ["gcc", "libc6-dev", "python3", "python3-pip-whl"]
    with ThreadPoolExecutor() as pool:
        tools = pool.submit(debian.tree, "toolchain", compiler, variant="essential", without=sanitizers)
        plain = pool.submit(debian.tree, "python", ["python3"], variant="essential")
        return tools.result(), plain.result()


@pytest.fixture
def application(context: Context, bases: tuple[Path, Path]) -> Iterator[Context]:
    """The application's context, and an engine that has its bases."""
    for name, tree in zip(("toolchain", "debian"), bases, strict=True):
        context.engine.docker("import", "-c", "ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", str(tree), name)
    context.write("Dockerfile", DOCKERFILE)
    for path, text in SOURCES.items():
        context.write(path, text)
    context.write("wheels/shout-2.0-py3-none-any.whl", _wheel("shout", "2.0", "def loud(text): return text.upper()\n"))
    context.write("wheels/report-1.0-py3-none-any.whl", _wheel("report", "1.0", REPORT, "shout>=2"))
    yield context
    context.engine.docker("builder", "prune", "-af")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Ours]:
    """A wherry-registry."""
    (tmp_path / "registry").mkdir()
    made = Ours(tmp_path / "registry")
    made.start()
    yield made
    made.kill()


def _build(context: Context, *flags: str) -> str:
    """Build with our own command; returns what it told."""
    return context.engine.wherry("build", "--progress=plain", *flags, str(context.directory)).err


def test_an_application_is_built_run_pushed_pulled_and_run_again(
    application: Context, registry: Ours, engine: EngineProcess
) -> None:
    """A second build does nothing, a change only what follows from it, and the registry gives back what was built."""
    name = f"{registry.name}/team/report:1"
    told = _build(application, "-t", name)
    assert told.count(" DONE ") >= STEPS
    said = "ONE TWO THREE: 3 words by 1000 in /home/app\n"
    assert engine.docker("run", "--rm", name).out == said
    id_ = engine.docker("images", "-q", "--no-trunc", name).out

    again = _build(application, "-t", name)
    assert again.count(" CACHED") >= STEPS
    assert engine.docker("images", "-q", "--no-trunc", name).out == id_
    application.write("src/main.c", SOURCES["src/main.c"].replace("%d", "%02d"))
    told = _build(application, "-t", "changed")
    known = set(re.findall(r"^(#\d+) CACHED", told, re.MULTILINE))
    anew = {
        name for number, name in re.findall(r"^(#\d+) \[(\S+ \d+/\d+)\]", told, re.MULTILINE) if number not in known
    }
    # a linked copy stands on nothing: it is what it was
    assert anew == {"compile 5/7", "compile 6/7", "compile 7/7", "stage-2 4/7", "stage-2 6/7", "stage-2 7/7"}
    assert engine.docker("run", "--rm", "changed", "a b").out == "A B: 02 words by 1000 in /home/app\n"

    engine.docker("push", "-q", name)
    engine.docker("rmi", "-f", name, "changed")
    engine.docker("builder", "prune", "-af")
    assert engine.docker("run", "--rm", "--pull", "always", "-q", name).out == said
    assert engine.docker("images", "-q", "--no-trunc", name).out == id_
    assert engine.docker("run", "--rm", "--entrypoint", "cat", name, "built").out == (
        "BUILT IN A STEP: 4 words by 0 in /home/app\n"
    )
