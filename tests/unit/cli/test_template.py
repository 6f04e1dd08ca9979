"""Go templates: values, functions, control, and errors in Go's words."""

import pytest

from wherry.cli.shapes import shaped
from wherry.cli.template import Template, TemplateError

DATA = {
    "Map": {"x": 1, "y": "z"},
    "List": ["a", "b"],
    "Text": "hello",
    "True": True,
    "Nil": None,
    "Number": 1.5,
    "Deep": {"Er": {"Est": "end"}},
    "Empty": [],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.Map}} {{.List}} {{.Text}} {{.True}} {{.Nil}} {{.Number}}", "map[x:1 y:z] [a b] hello true <nil> 1.5"),
        ("{{.Nope}} {{.Map.nope}}", "<no value> <no value>"),
        ("{{.Deep.Er.Est}} {{(index .List 0)}} {{(.Deep.Er).Est}}", "end a end"),
        ("{{range $k,$v := .Map}}{{$k}}={{$v}};{{end}}", "x=1;y=z;"),
        ("{{range .List}}<{{.}}>{{else}}none{{end}}{{range .Empty}}x{{else}}none{{end}}", "<a><b>none"),
        ("{{range $i, $e := .List}}{{if $i}}, {{end}}{{$e}}{{end}}", "a, b"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ('{{range .List}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}', "a"),
        ('{{range .List}}{{if eq . "a"}}{{continue}}{{end}}{{.}}{{end}}', "b"),
        ('{{if eq .Text "x"}}1{{else if .True}}2{{else}}3{{end}}', "2"),
        ("{{if .Nil}}1{{else}}2{{end}}{{if not .Empty}}3{{end}}", "23"),
        ("{{with .Deep}}{{.Er.Est}}{{$.Text}}{{end}}{{with .Nil}}x{{else}}y{{end}}", "endhelloy"),
        ("{{with $x := .Text}}{{$x}}{{end}}", "hello"),
        ('{{$x := "a"}}{{$x = "b"}}{{$x}}', "b"),
        ('{{json .Map}} {{.Text | upper | printf "%-8s|"}}', '{"x":1,"y":"z"} HELLO   |'),
        ("a  {{- .Text -}}  b", "ahellob"),
        ("{{/* a comment */}}x{{- /* another */ -}} y", "xy"),
        ("{{len .List}} {{len .Text}} {{len .Map}}", "2 5 2"),
        ('{{join .List ","}} {{split "a,b" ","}} {{title "foo bar"}} {{lower "A"}}', "a,b [a b] Foo Bar a"),
        ('[{{pad "x" 1 2}}] {{truncate .Text 3}} {{slice .Text 1 3}}', "[ x  ] hel el"),
        ('{{printf "%05d %q %v %x %%" .Map.x .Text .List .Map.x}}', '00001 "hello" [a b] 1 %'),
        ('{{printf "%s"}} {{printf "x" 1}}', "%!s(MISSING) x%!(EXTRA int=1)"),
        ('{{print 1 2 "a" "b"}} {{println .Text}}', "1 2a b hello\n".replace("2a b", "2ab")),
        ("{{and .True .Text}} {{or .Nil .Text}} {{not .Nil}}", "hello hello true"),
        ('{{eq 1 2 1}} {{ne "a" "b"}} {{lt 1 2}} {{le 2 2}} {{gt 1.5 1.0}} {{ge "b" "a"}}', "true " * 5 + "true"),
        ('{{"a\\tb"}}{{`r\\w`}}', "a\tbr\\w"),
        ('{{index .Map "y"}}|{{index .List 1}}|{{html "<a>"}}', "z|b|&lt;a&gt;"),
        ("no action }} at all", "no action }} at all"),
    ],
)
def test_output(text: str, expected: str) -> None:
    """Templates print what Go prints."""
    assert Template(text).execute(DATA) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.Text", ":1: unclosed action"),
        ("{{foo}}", ':1: function "foo" not defined'),
        ("\n{{foo}}", ':2: function "foo" not defined'),
        ("{{$y}}", ':1: undefined variable "$y"'),
        ("{{if}}{{end}}", ":1: missing value for if"),
        ("{{if .Text}}", ":1: unexpected EOF"),
        ("{{end}}", ":1: unexpected {{end}}"),
        ('{{"x}}', ":1: unterminated quoted string"),
        ("{{1 | 2}}", ":1: non executable command in pipeline stage 2"),
        ("{{break}}", ":1: {{break}} outside {{range}}"),
        ("{{(.Text}}", ":1: unclosed left paren"),
        ("{{.Text)}}", ":1: unexpected right paren"),
        ("{{/* x }}", ":1: unclosed comment"),
        (
            "{{index .List 9}}",
            ':1:2: executing "" at <index .List 9>: error calling index: index out of range: 9',
        ),
        ("{{.Text.x}}", ':1:7: executing "" at <.Text.x>: can\'t evaluate field x in type string'),
        ("ab\ncd{{.Text.x}}", ':2:9: executing "" at <.Text.x>: can\'t evaluate field x in type string'),
        ("{{range .Text}}{{end}}", ':1:8: executing "" at <.Text>: range can\'t iterate over hello'),
        (
            '{{eq 1 "a"}}',
            ':1:2: executing "" at <eq 1 "a">: error calling eq: incompatible types for comparison',
        ),
        ("{{upper}}", ':1:2: executing "" at <upper>: wrong number of args for upper: want 1 got 0'),
    ],
)
def test_errors(text: str, message: str) -> None:
    """What is wrong is said in Go's words, with the place."""
    with pytest.raises(TemplateError) as caught:
        Template(text).execute(DATA)
    assert str(caught.value) == f"template: {message}"


def test_missing_key_is_an_error_when_strict() -> None:
    """With missingkey=error, as inspect has it on plain JSON, an absent entry is an error and null is no value."""
    with pytest.raises(TemplateError, match=r'executing "" at <\.Nope>: map has no entry for key "Nope"'):
        Template("{{.Nope}}", strict=True).execute(DATA)
    assert Template("{{.Nil}}", strict=True).execute(DATA) == "<no value>"


def test_structs_have_their_zero_values() -> None:
    """A field that the JSON leaves out prints as Go's zero; a struct prints as a struct, a map as a map."""
    container = shaped(
        "container.InspectResponse",
        {
            "Id": "abc",
            "State": {"Status": "running", "Running": True, "Pid": 7},
            "Config": {"Labels": {"a": "b"}, "Env": None},
            "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": None}},
        },
    )

    def show(text: str) -> str:
        return Template(text).execute(container)

    assert show("{{.State.Health}}{{if .State.Health}}x{{end}}") == "<nil>"
    assert show("{{.State}}") == "{running true false false false false 7 0    <nil>}"
    assert show("{{.ID}} {{.Config.Labels}} {{.Config.Env}}") == "abc map[a:b] []"
    assert show("{{.NetworkSettings.Ports}}") == "map[80/tcp:[{0.0.0.0 8080}] 81/tcp:[]]"
    assert show("{{json .State}}") == '{"Status":"running","Running":true,"Pid":7}'
    assert show("{{json .Config}}") == '{"Env":null,"Labels":{"a":"b"}}'
    with pytest.raises(TemplateError, match=r"can't evaluate field Nope in type \*container.State"):
        show("{{.State.Nope}}")
