"""Pull, push, search and login: what they refuse, and what they say to a registry of Debian's on loopback."""

from tests.compat.row import Row, look

# a registry of the row's own; the port is taken at random, since both engines' rows run at the same time
_START = (
    "R=127.0.0.1:$(shuf -i 20000-29999 -n 1); rm -rf $DIR/reg; "
    "printf 'version: 0.1\\nlog: {level: error}\\nstorage: {filesystem: {rootdirectory: %s}}\\nhttp: {addr: \"%s\"}\\n' "
    "$DIR/reg $R >$DIR/reg.yml; docker-registry serve $DIR/reg.yml >/dev/null 2>&1 & p=$!; "
    "until (exec 3<>/dev/tcp/${R/:/\\/}) 2>/dev/null; do sleep 0.1; done; "
)
_SAME = (
    (r"127\.0\.0\.1:\d+", "<registry>"),
    (r"sha256:[0-9a-f]{64}", "<digest>"),
    (r"\b[0-9a-f]{12}: ", "<layer>: "),
    (r"size: \d+", "size: <n>"),
)

# dockerd looks first whether somebody answers, and words the failure of that
_ASKED = ((r"/v1/(_ping|search)", "/v1/<asked>"),)


def wire(line: str, *, ignore: tuple[str, ...] = ()) -> Row:
    """A row that has a registry at `$R`."""
    return Row(f"{_START}{line}; code=$?; kill $p; exit $code", normalise=_SAME, ignore=ignore)


ROWS = [
    look("docker pull busybox:"),
    look("docker pull -a busybox:x"),
    look("docker pull a b"),
    look("docker pull 127.0.0.1:1/x"),
    look("docker pull --platform nope/nope/nope/nope busybox"),
    look("docker pull busybox@sha256:12"),
    look("docker push"),
    look("docker push nope/nope"),
    wire("docker tag busybox $R/a:1; docker push $R/a:nope"),
    look("docker push UPPER"),
    look("docker push -a busybox:latest"),
    look("docker push -a nope/nope"),
    look("docker push busybox@sha256:" + "a" * 64),
    look("docker push 127.0.0.1:1/nope"),
    Row("docker push 127.0.0.1:1/x", setup="docker tag busybox 127.0.0.1:1/x"),
    wire("docker tag busybox $R/a:1; docker push $R/a:1", ignore=("stdout",)),
    wire("docker tag busybox $R/a:1; docker push -q $R/a:1"),
    wire("docker tag busybox $R/a; docker push -q $R/a; docker push $R/a"),
    wire("docker tag busybox $R/a:1; docker tag busybox $R/a:2; docker push -q -a $R/a"),
    wire("docker pull $R/nope:1"),
    wire("docker pull -a $R/nope"),
    wire("docker tag busybox $R/a:1; docker push -q $R/a:1; docker rmi $R/a:1; docker pull -q $R/a:1"),
    wire("docker tag busybox $R/a:1; docker push -q $R/a:1; docker rmi $R/a:1; docker pull $R/a:1"),
    wire("docker tag busybox $R/a:1; docker push -q $R/a:1; docker pull $R/a:1; docker pull $R/a:2"),
    wire("docker tag busybox $R/a:1; docker push -q $R/a:1; docker pull -a $R/a"),
    wire(
        "docker tag busybox $R/a:1; docker push -q $R/a:1; docker images --digests --format '{{.Tag}} {{.Digest}}' $R/a"
    ),
    wire(
        "docker tag busybox $R/a:1; docker push -q $R/a:1; docker pull --platform linux/s390x $R/a:1",
    ),
    wire("docker search $R/x"),
    wire("echo pw | docker login -u me --password-stdin $R"),
    look("docker login -u me 127.0.0.1:1 </dev/null"),
    look("echo wrong | docker login -u me --password-stdin 127.0.0.1:1"),
    look("docker login -p x -u '' 127.0.0.1:1"),
    look("docker logout 127.0.0.1:1"),
    look("docker search --limit 101 127.0.0.1:1/x", normalise=_ASKED),
    look("docker search --filter nope=1 127.0.0.1:1/x"),
    look("docker search --filter stars=x 127.0.0.1:1/x"),
    look("docker search 127.0.0.1:1/x", normalise=_ASKED),
    look("docker search UPPER://x"),
]
