"""The flags that say what text is allowed."""

import json
import re

import pytest
import tiny
from test_cli_generate import refused, said, written

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "maximum": 99}},
    "required": ["ok", "n"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    letters = f"{json.dumps(SCHEMA)} 0123456789 []-. the quick brown fox jumps"
    file = folder / "text.txt"
    file.write_text("\n\n".join(f"{letters} {i}" for i in range(24)))
    config = tiny.config("mdlm", steps=1, model={"max_length": 48})
    tiny.run(config, str(file), folder / "mdlm")
    return folder / "mdlm"


@pytest.fixture
def schema(tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    return file


def test_each_flag_makes_a_language(model, schema, tmp_path, capsys):
    grammar = tmp_path / "fox.gbnf"
    grammar.write_text('root ::= "fox" | "[" root "]"')
    kinds = {
        ("--json-schema", schema): lambda text: set(json.loads(text)) == {"ok", "n"},
        ("--regex", "[0-9]{2}-[a-d]+"): re.compile("[0-9]{2}-[a-d]+").fullmatch,
        ("--grammar", grammar): re.compile(r"\[*fox\]*").fullmatch,
        ("--grammar", "json"): lambda text: json.loads(text) is not NotImplemented,
        ("--template", "the {what:[fox|quick]} {n:int}."): re.compile(
            r"the (fox|quick) -?[0-9]+\."
        ).fullmatch,
        ("--choices", "fox|brown"): re.compile("fox|brown").fullmatch,
    }
    for flags, right in kinds.items():
        short = ("--new-tokens", 26, "--num", 2, "--steps", 8)  # several tokens a step
        samples, _ = written(capsys, model, *flags, *short)
        for sample in samples:
            assert right(sample["text"]), (flags, sample["text"])


def test_a_scaffold_is_written_out_beforehand(model, schema, capsys):
    [sample], _ = written(capsys, model, "--json-schema", schema, "--scaffold", 4)
    value = json.loads(sample["text"])
    assert list(value) == ["ok", "n"]
    given = [token for token, known in zip(sample["tokens"], sample["given"], strict=True) if known]
    assert len(given) == len('{"ok": , "n": }')


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--regex", "a", "--choices", "a|b"], "--regex and --choices both say"),
        (["--regex", "a", "--scaffold", "4"], "--scaffold writes out"),
        (["--regex", "a", "--unknown-keywords", "ignore"], "--unknown-keywords speaks of"),
        (["--covers", "canvas"], "there is none"),
        (["--regex", "(a"], "position"),
        (["--grammar", "pyhton"], "did you mean 'python'"),
        (["--grammar", "missing.lark"], "--grammar missing.lark cannot be read"),
        (["--regex", "[0-9]{30}", "--new-tokens", "8"], "takes 30 tokens and there is room for 8"),
        (["--template", "{a:nothing}"], "nothing"),
        (["--choices", "Ж"], "Ж"),
    ],
)
def test_what_cannot_be_obeyed_is_one_line_and_exit_code_2(model, flags, why, capsys):
    assert why in refused(capsys, "generate", model, *flags)


def test_an_unsatisfiable_schema_names_its_part(model, tmp_path, capsys):
    file = tmp_path / "bad.json"
    file.write_text(
        '{"type": "object", "required": ["n"],'
        ' "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 2}}}'
    )
    assert "/properties/n" in refused(capsys, "generate", model, "--json-schema", file)
    file.write_text("{")
    assert "JSON" in refused(capsys, "generate", model, "--json-schema", file)
    file.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refused(capsys, "generate", model, "--json-schema", file)


def test_keywords_nobody_knows_are_refused_or_taken_for_annotations(model, tmp_path, capsys):
    file = tmp_path / "odd.json"
    file.write_text('{"type": "boolean", "frobnicate": 1}')
    assert "#/frobnicate" in refused(capsys, "generate", model, "--json-schema", file)
    flags = ("--json-schema", file, "--unknown-keywords", "ignore", "--new-tokens", 8)
    [sample], _ = written(capsys, model, *flags)
    assert sample["text"] in ("true", "false")


def test_covers_speaks_of_the_whole_canvas(model, capsys):
    canvas = '["fox", 5, "jumps"]'
    flags = ("--canvas", canvas, "--regex", "fox[0-9]+jumps", "--covers", "canvas")
    [sample], _ = written(capsys, model, *flags)
    assert re.fullmatch("fox[0-9]+jumps", sample["text"])
    code, _, err = said(capsys, "generate", model, *flags[:-1], "both")
    assert code == 2
    assert "covers" in err
