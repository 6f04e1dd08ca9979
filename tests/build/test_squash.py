"""`--squash`: the layers of a build as one, with everything that they deleted and replaced."""

import json

import pytest

from tests.build.conftest import Context
from tests.build.test_wherry import build

pytestmark = pytest.mark.root

DOCKERFILE = """
FROM busybox
RUN mkdir -p /d/e /o && echo 1 > /d/e/f && echo 1 > /d/g && echo 1 > /o/a && ln /d/g /d/h
RUN rm -r /d/e && mkdir /d/e && echo 2 > /d/e/x && rm /bin/vi /home -r && rm /d/g
RUN rm -r /o && mkdir -m 700 /o && echo 3 > /o/b && rm -r /usr && mkdir /usr && echo 3 > /usr/mine
"""


def test_a_squashed_image_shows_the_same_files_in_one_layer(context: Context) -> None:
    """Tree, modes and links are those of the unsquashed image; there is one layer more than the base has."""
    context.docker(DOCKERFILE, "-t", "long")
    build(context, DOCKERFILE, "-t", "short", "--squash")
    look = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /etc \\) -prune -o -print | sort | "
    look += "xargs stat -c '%n %a %u %g %s %F'"
    assert context.run("short", "sh", "-c", look) == context.run("long", "sh", "-c", look)
    layers = {
        name: json.loads(context.engine.docker("image", "inspect", name).out)[0]["RootFS"]["Layers"]
        for name in ("busybox", "long", "short")
    }
    assert len(layers["short"]) == len(layers["busybox"]) + 1
    assert len(layers["long"]) == len(layers["busybox"]) + 3
    saved = context.engine.run("sh", "-c", "docker save short | docker load")
    assert saved.code == 0
