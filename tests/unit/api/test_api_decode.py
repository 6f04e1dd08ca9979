"""Request bodies, read as Go's decoder reads them."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.errors import InvalidArgument
from wherry.wire.containers import CreateRequest, ExecConfig, HostConfig
from wherry.wire.decode import decode


def create(**keys: object) -> CreateRequest:
    found = decode(json.dumps(keys).encode(), CreateRequest)
    assert found is not None
    return found


def test_nulls() -> None:
    """A null key of a struct is absent; a null value of a map keeps its key; a null item is the zero value."""
    made = create(
        Image="b",
        Env=None,
        Cmd=["a", None],
        ExposedPorts={"80/tcp": None},
        Volumes={"/v": {}},
        Labels={"a": None},
        HostConfig={
            "PortBindings": {"80/tcp": None, "81/tcp": [{"HostPort": None, "HostIp": "::1"}, None]},
            "RestartPolicy": {"Name": None},
            "Mounts": [None],
            "NetworkMode": None,
            "Init": None,
        },
        Healthcheck=None,
    )
    assert (made.env, made.cmd, made.labels, made.healthcheck) == (None, ["a", ""], {"a": ""}, None)
    assert made.exposed_ports == {"80/tcp": None}
    host = made.host_config
    assert host is not None
    assert host.port_bindings is not None
    assert host.port_bindings["80/tcp"] is None
    bindings = host.port_bindings["81/tcp"]
    assert bindings is not None
    assert [(b.host_ip, b.host_port) for b in bindings] == [("::1", ""), ("", "")]
    assert (host.network_mode, host.restart_policy.name, host.init) == ("default", "no", None)
    assert decode(b"null", HostConfig) is None


def test_keys_fit_in_any_case_and_others_are_ignored() -> None:
    """An exact key wins over one that fits but for its case."""
    made = decode(b'{"detachKeys":"ctrl-a","Container":"x","cmd":["no"],"Cmd":["yes"],"TTY":true}', ExecConfig)
    assert made is not None
    assert (made.detach_keys, made.cmd, made.tty) == ("ctrl-a", ["yes"], True)
    made = decode(b'{"Cmd":["yes"],"cmd":["no"],"Cmd":["last"]}', ExecConfig)
    assert made is not None
    assert made.cmd == ["last"]


def test_strings_and_lists() -> None:
    """Cmd and Entrypoint may be one string."""
    made = create(Cmd="ls -l", Entrypoint=["a"])
    assert (made.cmd, made.entrypoint) == ("ls -l", ["a"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "invalid JSON: got EOF while reading request body"),
        (b" \n", "invalid JSON: got EOF while reading request body"),
        (b"{", "invalid JSON: unexpected EOF"),
        (b"{}{}", "unexpected content after JSON"),
        (b"hello", "invalid JSON: invalid character 'h' looking for beginning of value"),
        (b"[]", "invalid JSON: json: cannot unmarshal array into Go value of type CreateRequest"),
        (
            b'{"Image":1}',
            "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Image of type string",
        ),
        (
            b'{"HostConfig":{"Memory":"x"}}',
            "invalid JSON: json: cannot unmarshal string into Go struct field HostConfig.Memory of type int64",
        ),
        (
            b'{"Env":"x"}',
            "invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.Env of type []string",
        ),
        (
            b'{"HostConfig":{"Memory":99999999999999999999}}',
            "invalid JSON: json: cannot unmarshal number 99999999999999999999 into Go value of type int64",
        ),
        (b'{"Labels":' + b'{"a":' * 100000, "invalid JSON: exceeded max depth"),
        (b"[" * 201, "invalid JSON: exceeded max depth"),
        (b"[" * 200, "invalid JSON: unexpected EOF"),
        (b'["' + b"[" * 201 + b'\\"', "invalid JSON: unexpected EOF"),
        (b'["]\\"]"' + b",[[], {}]" * 600, "invalid JSON: unexpected EOF"),
    ],
)
def test_words_of_refusal(body: bytes, message: str) -> None:
    """Go's words, as far as clients show them."""
    with pytest.raises(InvalidArgument) as caught:
        decode(body, CreateRequest)
    assert str(caught.value) == message


def refusal(raw: bytes) -> str:
    """Give the words by which a body is refused, nothing when it is read."""
    try:
        decode(raw, CreateRequest)
    except InvalidArgument as error:
        return str(error)
    return ""


_keys = st.sampled_from(["Cmd", "env", "HostConfig", "Mounts", "x"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=10,
)
_quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@_quick
@given(st.dictionaries(st.sampled_from(["Image", "hostconfig", "Env", "Labels", "Healthcheck", "StopTimeout"]), _json))
def test_any_json_is_read_or_refused(value: object) -> None:
    """No document makes anything but a request or an InvalidArgument."""
    words = refusal(json.dumps(value).encode())
    assert not words or words.startswith("invalid JSON")


@_quick
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """No bytes make anything else either."""
    words = refusal(raw)
    assert not words or "JSON" in words
