"""Which variable has which value where, and instructions with their variables replaced."""

import pytest

from wherry.builder.language import commands as c
from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.instructions import parse_stages
from wherry.builder.language.parser import parse
from wherry.builder.language.variables import Globals, StageScope
from wherry.oci.platform import Platform


def walk(text: str, env: dict[str, str] | None = None, **build_args: str) -> tuple[list[c.Command], StageScope]:
    """The instructions of the last stage after expansion, and its scope at the end."""
    document = parse(text.encode())
    program = parse_stages(document)
    shared = Globals(
        build_args=build_args,
        build_platform=Platform("linux", "amd64"),
        target_platform=Platform("linux", "arm", "v7"),
        escape=document.escape,
    )
    shared.declare(program.meta_args)
    scope = StageScope.begin(shared, env or {})
    return [scope.apply(command) for command in program.stages[-1].commands], scope


def test_env_counts_from_the_next_instruction_on() -> None:
    _, scope = walk("FROM x\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n")
    assert scope.env == {"abc": "bye", "def": "hello", "ghi": "bye"}


def test_args_are_seen_where_they_are_declared() -> None:
    text = "ARG G=1\nARG H=$G-h\nFROM x\nENV a=${G:-none}\nARG G\nARG H=own\nARG I=$G\nARG U\nENV b=$G-$H-$I-$U\n"
    _, scope = walk(text)
    assert scope.env["a"] == "none"
    assert scope.env["b"] == "1-own-1-"
    assert [(pair.key, pair.value) for pair in scope.args] == [("G", "1"), ("H", "own"), ("I", "1"), ("U", None)]
    assert scope.arg_words() == ["|4", "G=1", "H=own", "I=1", "U="]


def test_build_args_win_and_are_remembered() -> None:
    _, scope = walk("FROM x\nARG A=1\nARG B\nENV e=$A$B$C\n", A="9", B="8", C="7")
    assert scope.env["e"] == "98"
    assert scope.used_build_args == {"A", "B"}


def test_predefined_args_have_to_be_declared() -> None:
    _, scope = walk("FROM x\nENV a=$TARGETARCH\nARG TARGETARCH\nARG TARGETPLATFORM\nARG BUILDARCH\nENV b=$TARGETARCH\n")
    assert scope.env["a"] == ""
    assert (scope.env["b"], scope.env["TARGETPLATFORM"], scope.env["BUILDARCH"]) == ("arm", "linux/arm/v7", "amd64")


def test_proxies_need_no_declaration() -> None:
    _, scope = walk("FROM x\nENV a=$http_proxy\n", http_proxy="http://p", other="1")
    assert scope.env["a"] == ""
    assert scope.shared.proxies() == {"http_proxy": "http://p"}


def test_what_is_expanded() -> None:
    got, _ = walk(
        "FROM x\nENV d=/data n=80\nCOPY --chown=$u --chmod=$n $d/a b\\$c '$d' $d/\nADD --checksum=$n $d x\n"
        'WORKDIR $d/w\nUSER $u\nVOLUME $d ${d}2\nEXPOSE $n ${n}80-8082/UDP\nSTOPSIGNAL $s\nLABEL l$n="v $d"\n'
        'RUN echo $d\nCMD echo $d\nENTRYPOINT ["$d"]\nCOPY <<E <<\'F\' /h\n$d "q" \\$d\nE\n$d\nF\n',
        env={"u": "me", "s": "TERM"},
    )
    copy, add, workdir, user, volume, expose, signal, label, run, cmd, entry, files = got[1:]
    assert isinstance(copy, c.Copy) and copy.sources == ("/data/a", "b$c", "$d") and copy.dest == "/data/"
    assert (copy.chown, copy.chmod) == ("me", "80")
    assert isinstance(add, c.Add) and (add.checksum, add.sources) == ("80", ("/data",))
    assert isinstance(workdir, c.Workdir) and workdir.path == "/data/w"
    assert isinstance(user, c.User) and user.user == "me"
    assert isinstance(volume, c.Volume) and volume.volumes == ("/data", "/data2")
    assert isinstance(expose, c.Expose) and expose.ports == ("80/tcp", "8080/udp", "8081/udp", "8082/udp")
    assert isinstance(signal, c.StopSignal) and signal.signal == "TERM"
    assert isinstance(label, c.Label) and label.pairs == (c.Pair("l80", "v /data"),)
    assert isinstance(run, c.Run) and run.cmdline == ("echo $d",)
    assert isinstance(cmd, c.Cmd) and cmd.cmdline == ("echo $d",)
    assert isinstance(entry, c.Entrypoint) and entry.cmdline == ("$d",)
    assert isinstance(files, c.Copy) and [f.content for f in files.files] == ['/data "q" $d\n', "$d\n"]


def test_mounts() -> None:
    got, _ = walk(
        "FROM x\nARG T=cache\nRUN --mount=type=$T,id=a,dst=/c,sharing=locked,mode=0700,uid=1,gid=2 "
        "--mount=type=secret,id=s,env=TOKEN,required --mount=type=tmpfs,target=/t,size=1m "
        '--mount="target=/b,source=a,rw" --mount=type=ssh x\n'
    )
    run = got[1]
    assert isinstance(run, c.Run)
    cache, secret, tmpfs, bind, ssh = run.mounts
    assert cache == c.RunMount(
        "cache", id="a", target="/c", sharing="locked", mode=0o700, uid=1, gid=2, read_only=False
    )
    assert secret == c.RunMount("secret", id="s", env="TOKEN", required=True)
    assert tmpfs == c.RunMount("tmpfs", target="/t", size=1 << 20, read_only=False)
    assert bind == c.RunMount("bind", target="/b", source="a", read_only=False)
    assert ssh == c.RunMount("ssh")


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("type=cash", 'unsupported mount type "cash" (did you mean cache?)'),
        ("type=cache,sharing=lock", 'unsupported sharing value "lock" (did you mean locked?)'),
        ("sharing=locked", "invalid cache sharing set for bind mount"),
        ("foo=bar", "unexpected key 'foo' in 'foo=bar' (did you mean from?)"),
        ("bogus", "invalid field 'bogus' must be a key=value pair"),
        ("ro=maybe", "invalid value for ro: maybe"),
        ("required", "unexpected key 'required' for mount type 'bind'"),
        ("type=bind,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("mode=755", 'mode not allowed for "bind" type mounts'),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,src=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing"),
    ],
)
def test_mounts_refused(mount: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        walk(f"FROM x\nRUN --mount={mount} y")
    assert str(caught.value) == message
    assert caught.value.location == (2, 2)


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ("x", "invalid containerPort: x"),
        ("70000", "invalid containerPort: 70000"),
        ("82-80", "invalid containerPort: 82-80"),
        ("80/foo", 'invalid port: "80/foo": invalid proto: foo'),
        ("/tcp", 'invalid port: "/tcp": no port specified'),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("x:80", "invalid hostPort: x"),
        ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ("0-65535 " * 9, "EXPOSE names more than 262144 ports"),
    ],
)
def test_ports_refused(ports: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        walk(f"FROM x\nEXPOSE {ports}")
    assert str(caught.value) == message


def test_ports_with_addresses() -> None:
    got, _ = walk("FROM x\nEXPOSE 127.0.0.1:8080:80/tcp [::1]:90:91\n")
    assert isinstance(got[0], c.Expose) and got[0].ports == ("80/tcp", "91/tcp")


def test_names_that_are_not_set_are_reported_once_declared_names_are_not() -> None:
    program = parse_stages(parse(b"FROM x\nARG A\nENV e=$A$B\nRUN --mount=target=/$C,source=x y\n"))
    shared = Globals(
        build_args={}, build_platform=Platform("linux", "amd64"), target_platform=Platform("linux", "amd64")
    )
    scope = StageScope.begin(shared, {})
    seen: list[tuple[str, str]] = []
    for command in program.stages[0].commands:
        scope.apply(command, lambda at, name, _known: seen.append((at.original.split()[0], name)))
    assert seen == [("ENV", "B"), ("RUN", "C")]


def test_a_variable_that_doubles_itself_is_refused() -> None:
    text = "FROM x\nENV a=xxxxxxxxxxxxxxxx\n" + "ENV a=$a$a\n" * 40
    with pytest.raises(DockerfileError, match="longer than"):
        walk(text)


def test_a_child_sees_what_its_base_had() -> None:
    _, scope = walk("FROM x\nARG A=1\nENV b=2\n")
    child = scope.child()
    assert child.env == {"A": "1", "b": "2"}
    child.env["b"] = "3"
    assert scope.env["b"] == "2"
