"""What an image says and what the request says, joined as dockerd joins them."""

import pytest

from wherry.containers.merge import command, merge
from wherry.errors import InvalidArgument
from wherry.wire.containers import CreateRequest, Healthcheck

IMAGE = {
    "Env": ["PATH=/bin", "A=image"],
    "Cmd": ["sh"],
    "User": "app",
    "WorkingDir": "/srv",
    "Labels": {"from": "image", "kept": "yes"},
    "ExposedPorts": {"80/tcp": {}},
    "StopSignal": "SIGQUIT",
}


@pytest.mark.parametrize(
    ("request_words", "image_words", "result"),
    [
        ({}, {"Cmd": ["sh"]}, ["sh"]),
        ({"cmd": ["ls"]}, {"Cmd": ["sh"]}, ["ls"]),
        ({}, {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["/e", "c"]),
        ({"cmd": ["x"]}, {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["/e", "x"]),
        ({"entrypoint": ["/mine"]}, {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["/mine"]),
        ({"entrypoint": ["/mine"], "cmd": ["x"]}, {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["/mine", "x"]),
        ({"entrypoint": [""], "cmd": ["x"]}, {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["x"]),
        ({"cmd": "a string is one word"}, {}, ["a string is one word"]),
    ],
)
def test_the_words_of_process_1(
    request_words: dict[str, list[str]], image_words: dict[str, list[str]], result: list[str]
) -> None:
    """A given entrypoint drops the image's command; an empty one drops the image's entrypoint."""
    assert command(merge(CreateRequest(image="i", **request_words), image_words)) == result  # type: ignore[arg-type]


def test_no_command_at_all_is_refused() -> None:
    """Neither request nor image names a program."""
    with pytest.raises(InvalidArgument, match="no command specified"):
        merge(CreateRequest(image="i"), {})


def test_the_request_wins_and_the_image_fills_in() -> None:
    """Environment by name, labels by key, ports joined, the rest where the request is silent."""
    request = CreateRequest(image="i", env=["A=mine", "B"], labels={"from": "me"}, exposed_ports={"81/tcp": {}})
    config = merge(request, IMAGE)
    assert config.env == ["A=mine", "B", "PATH=/bin"]
    assert config.labels == {"from": "me", "kept": "yes"}
    assert set(config.exposed_ports or {}) == {"80/tcp", "81/tcp"}
    assert (config.user, config.working_dir, config.stop_signal) == ("app", "/srv", "SIGQUIT")
    explicit = merge(CreateRequest(image="i", user="0", working_dir="/", stop_signal="SIGINT"), IMAGE)
    assert (explicit.user, explicit.working_dir, explicit.stop_signal) == ("0", "/", "SIGINT")


def test_merging_leaves_the_image_alone() -> None:
    """Two containers of one image do not share lists."""
    first = merge(CreateRequest(image="i"), IMAGE)
    assert first.env is not None
    first.env.append("X=1")
    assert merge(CreateRequest(image="i"), IMAGE).env == ["PATH=/bin", "A=image"]


def test_what_a_health_check_lacks_is_the_images() -> None:
    """Each field by itself; NONE takes the check away, and no check stays none."""
    image = {**IMAGE, "Healthcheck": {"Test": ["CMD", "probe"], "Interval": 5, "Retries": 7}}
    assert merge(CreateRequest(image="i"), image).healthcheck == Healthcheck(
        test=["CMD", "probe"], interval=5, retries=7
    )
    asked = Healthcheck(test=["CMD", "true"], timeout=9, retries=1)
    assert merge(CreateRequest(image="i", healthcheck=asked), image).healthcheck == Healthcheck(
        test=["CMD", "true"], interval=5, timeout=9, retries=1
    )
    none = merge(CreateRequest(image="i", healthcheck=Healthcheck(test=["NONE"])), image).healthcheck
    assert none is not None
    assert none.test == ["NONE"]
    assert merge(CreateRequest(image="i"), IMAGE).healthcheck is None
