"""How an error shows its place."""

from wherry.builder.language.errors import DockerfileError, excerpt
from wherry.errors import from_wire, to_wire

SOURCE = "".join(f"line {number}\n" for number in range(1, 12))


def test_one_line_gets_company() -> None:
    assert excerpt(SOURCE, "Dockerfile", [(5, 5)]) == (
        "Dockerfile:5\n--------------------\n"
        "   3 |     line 3\n   4 |     line 4\n   5 | >>> line 5\n   6 |     line 6\n   7 |     line 7\n"
        "--------------------\n"
    )


def test_a_block_gets_less() -> None:
    assert excerpt(SOURCE, "x/Dockerfile", [(5, 6)]) == (
        "x/Dockerfile:5\n--------------------\n"
        "   4 |     line 4\n   5 | >>> line 5\n   6 | >>> line 6\n   7 |     line 7\n"
        "--------------------\n"
    )


def test_at_the_edges() -> None:
    assert excerpt("FROM x\nFOO", "Dockerfile", [(2, 2)]) == (
        "Dockerfile:2\n--------------------\n   1 |     FROM x\n   2 | >>> FOO\n--------------------\n"
    )
    assert excerpt("FOO", "Dockerfile", [(1, 9)]).count(">>>") == 1
    assert excerpt("FOO", "Dockerfile", [(0, 0)]) == ""
    assert excerpt("FOO", "Dockerfile", []) == ""


def test_its_place_crosses_a_process_boundary() -> None:
    error = from_wire(to_wire(DockerfileError("bad", (3, 4))))
    assert isinstance(error, DockerfileError)
    assert (str(error), error.location) == ("bad", (3, 4))
    assert DockerfileError("bad").at((1, 1)).location == (1, 1)
    assert error.at((1, 1)).location == (3, 4)
