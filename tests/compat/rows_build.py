"""Build, with the classic builder: `docker build`, its cache, and what it refuses."""

from tests.compat.row import Row, call

_BUILD = "DOCKER_BUILDKIT=0 docker build"
# what only changes the configuration runs in no container here; dockerds of other versions tell of theirs otherwise
_NO_CONTAINERS = (
    (r"( ---> Running in| ---> Removed intermediate container|Removing intermediate container) [0-9a-f]{12}\n", ""),
)


def _piped(dockerfile: str, flags: str = "") -> Row:
    """A build without a context: the Dockerfile on stdin."""
    return Row(f"printf '{dockerfile}' | {_BUILD} {flags} -")


_CONTEXT = (
    "rm -rf ctx; mkdir -p ctx/sub; echo hi > ctx/a; echo ho > ctx/sub/b; "
    "printf 'FROM busybox\\nCOPY . /x\\nRUN cat /x/a /x/sub/b\\n' > ctx/Dockerfile; "
    "printf 'FROM scratch\\nCOPY a /\\n' > ctx/other"
)
_INSPECT = "docker image inspect -f '{{json .Config}}' t:1"
_PLAIN = ((r'"(Hostname|Image)":"[^"]*"', "<of the container>"),)


def _config(lines: str) -> Row:
    """What instructions make of the configuration."""
    return Row(f"printf 'FROM busybox\\n{lines}' | {_BUILD} -q -t t:1 - > /dev/null; {_INSPECT}", shape=True)


_ROWS: list[Row] = [
    _piped('FROM busybox\\nRUN echo hello\\nENV a=b\\nCMD ["c"]\\n'),
    _piped("FROM busybox\\nRUN echo hello\\n", "-q"),
    _piped("FROM busybox\\n", "-t one:1 -t two"),
    _piped("FROM busybox\\nRUN echo err >&2\\n")._replace(since=(26,)),
    _piped("FROM busybox\\nRUN exit 7\\n"),
    _piped("FROM busybox\\nRUN exit 7\\n", "-q"),
    _piped('FROM busybox\\nRUN ["nope"]\\n'),
    _piped("FROM busybox\\nUSER nobody\\nWORKDIR /w\\nRUN id -u; pwd\\n")._replace(since=(26,)),
    _piped("FROM busybox\\nARG a=1\\nARG b\\nRUN echo $a-$b\\n", "--build-arg a=2 --build-arg b=3"),
    _piped("FROM busybox\\n", "--build-arg unused=1"),
    _piped("FROM busybox AS a\\nRUN echo one > /f\\nFROM busybox\\nCOPY --from=a /f /g\\nRUN cat /g\\n"),
    _piped("FROM busybox AS a\\nRUN echo a\\nFROM busybox AS b\\nRUN echo b\\n", "--target a"),
    _piped("FROM busybox AS a\\n", "--target nope"),
    _piped("FROM busybox\\nRUN ip a | grep -c UP\\n", "--network none"),
    _piped('FROM busybox\\nSHELL ["/bin/sh", "-ec"]\\nRUN echo $0\\nENTRYPOINT x\\n'),
    # what is refused
    _piped(""),
    _piped("# nothing\\n"),
    _piped("RUN x\\n"),
    _piped("FROM busybox\\nNONSENSE x\\n"),
    _piped("FROM busybox\\nENV a\\n"),
    _piped("FROM busybox\\nENV\\n"),
    _piped("FROM busybox\\nCOPY a\\n"),
    _piped("FROM busybox\\nSHELL sh\\n"),
    _piped("FROM busybox\\nHEALTHCHECK NONE x\\n"),
    _piped("FROM busybox\\nONBUILD FROM x\\n"),
    _piped("FROM busybox\\nEXPOSE x\\n"),
    _piped("FROM busybox\\nSTOPSIGNAL nope\\n"),
    _piped("FROM busybox\\nWORKDIR ${x\\n"),
    _piped("FROM a b\\n"),
    _piped("FROM busybox AS 1\\n"),
    _piped("FROM\\n"),
    _piped("FROM $nothing\\n"),
    _piped("FROM busybox\\nCOPY nope /\\n"),
    _piped("FROM busybox\\nCOPY /no/./pe /\\n"),
    _piped("FROM busybox AS a\\nFROM busybox\\nCOPY --from=a /no/pe /\\n"),
    _piped("FROM busybox\\nCOPY --from=9 / /\\n"),
    _piped("FROM busybox\\n", "-t UPPER"),
    _piped(
        "FROM busybox\\n",
        "--label a=b --label c -t t:1 -q > /dev/null; docker image inspect -f '{{json .Config.Labels}}' t:1 #",
    ),
    Row(f"{_BUILD} --no-cache ctx", setup=_CONTEXT),
    Row(f"{_BUILD} --no-cache -f ctx/other ctx", setup=_CONTEXT),
    Row(f"{_BUILD} -f ctx/nope ctx", setup=_CONTEXT),
    Row(
        f"printf 'FROM busybox\\nCOPY a* no* /x/\\nRUN ls /x\\n' > ctx/other; {_BUILD} -f ctx/other ctx", setup=_CONTEXT
    ),
    Row(f"printf 'FROM busybox\\nCOPY no* /x/\\n' > ctx/other; {_BUILD} -f ctx/other ctx", setup=_CONTEXT),
    Row(f"printf 'FROM busybox\\nADD no* /x/\\n' > ctx/other; {_BUILD} -f ctx/other ctx", setup=_CONTEXT),
    Row(f"{_BUILD} nope"),
    Row(f"tar -C ctx -c . | {_BUILD} --no-cache -", setup=_CONTEXT),
    Row(f"tar -C ctx -c . | gzip | {_BUILD} --no-cache -f other -", setup=_CONTEXT),
    Row(f"echo a > ctx/.dockerignore; {_BUILD} -f ctx/other ctx", setup=_CONTEXT),
    Row(f"printf '*\\n!a\\n' > ctx/.dockerignore; {_BUILD} --no-cache -f ctx/other ctx", setup=_CONTEXT),
    Row(f"{_BUILD} --iidfile id ctx > /dev/null; wc -c < id", setup=_CONTEXT),
    Row(f"{_BUILD} -q ctx > /dev/null; {_BUILD} ctx", setup=_CONTEXT),
    _config('ENV a=b c="d e"\\nLABEL x=y\\nEXPOSE 80 90/udp\\nVOLUME /v\\nUSER u\\nWORKDIR /w\\nSTOPSIGNAL KILL\\n'),
    _config('HEALTHCHECK --interval=5s --retries=2 CMD true\\nSHELL ["/bin/sh", "-c"]\\nONBUILD RUN x\\n'),
    _config('ENTRYPOINT ["a", "b"]\\nCMD c d\\n'),
    Row(
        f'printf \'FROM busybox\\nENV a=b\\nEXPOSE 81 80\\nCMD x\\nENTRYPOINT ["y"]\\nWORKDIR w\\nUSER 1\\n'
        f'ARG z=1\\nRUN true\\nVOLUME /a /b\\nSTOPSIGNAL 9\\nLABEL a="b c"\\n\' | {_BUILD} -q -t t:1 - > /dev/null; '
        "docker history --no-trunc --format '{{.CreatedBy}}' t:1"
    ),
    Row(
        "printf 'FROM busybox\\nONBUILD RUN echo triggered\\n' | "
        f"{_BUILD} -q -t t:1 - > /dev/null; printf 'FROM t:1\\nRUN echo after\\n' | {_BUILD} -"
    ),
    call("POST", "/v/build", "no tar", {"Content-Type": "application/x-tar"}),
    call("POST", "/v/build?dockerfile=x", b"", {"Content-Type": "application/x-tar"}),
    call("POST", "/v/build?t=UPPER", b"", {"Content-Type": "application/x-tar"}),
    call("POST", "/v/build?buildargs=x", b"", {"Content-Type": "application/x-tar"}),
    call("POST", "/v/build?labels=x", b"", {"Content-Type": "application/x-tar"}),
    call("POST", "/v/build/prune?filters=x"),
]

ROWS = [row._replace(normalise=(*row.normalise, *_NO_CONTAINERS)) for row in _ROWS]
