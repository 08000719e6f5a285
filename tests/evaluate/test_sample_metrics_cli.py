"""``unison evaluate --metrics`` measures samples by what is named, and says what it lacks."""

import json

import pytest
import tiny

import unison
from unison.cli.main import main
from unison.evaluate.panel import Panel
from unison.evaluate.quality import judge_of, sample_quality

NAMED = ("compression", "duplicates", "novelty", "vendi")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    unison.save(tiny.model("mdlm"), path)
    return str(path)


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("quick brown foxes jump over lazy dogs. " * 40)
    return str(path)


def said(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def asked(folder, book, *more):
    return ("evaluate", folder, "--text", book, "--passes", 1, *more)


def test_named_metrics_are_those_of_the_function(folder, book, capsys):
    code, out, _ = said(
        capsys, *asked(folder, book, "--samples", 5, "--metrics", *NAMED),
        "--reference", book, "--features", "chars:3", "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(out)
    with open(book) as file:
        panel = Panel(NAMED, [file.read()], features="chars:3")
    want = sample_quality(unison.load(folder), judge_of("ngram", [book]), num=5, panel=panel)
    assert {"gen_ppl", "entropy", "vendi_1", "novel_8", "near_duplicates"} <= {*want}
    for name, estimate in want.items():
        assert found[name]["unit"] == estimate.unit
        if estimate.value == estimate.value:
            assert found[name]["value"] == pytest.approx(estimate.value, rel=1e-9)


def test_novelty_looks_at_the_training_text_where_it_is_given(folder, book, tmp_path, capsys):
    other = tmp_path / "other.txt"
    other.write_text("nothing of the kind")
    panels = [Panel(("novelty",), ["a"], ["b"]), Panel(("novelty",), ["b"])]
    assert panels[0].measure(["b"]) == panels[1].measure(["b"])
    code, out, _ = said(
        capsys, *asked(folder, book, "--samples", 2, "--metrics", "novelty"),
        "--training", other,
    )  # fmt: skip
    assert code == 0
    assert "longest_copy_max" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--metrics", "vendi"), "say how many with --samples"),
        (("--metrics", "vend", "--samples", 1), "did you mean 'vendi'"),
        (("--metrics", "novelty", "--samples", 1), "training text"),
        (("--metrics", "vendi", "--samples", 1, "--features", "x"), "no features 'x'"),
        (("--reference", "no/such/file", "--samples", 1), "no/such/file"),
    ],
)
def test_what_is_missing_is_said_before_a_model_is_opened(book, capsys, more, message):
    code, out, err = said(capsys, *asked("no/such/model", book, *more))
    assert code != 0
    assert out == ""
    assert message in err


def test_an_estimate_without_an_error_is_printed_without_an_interval(folder, book, capsys):
    _, out, _ = said(capsys, *asked(folder, book, "--samples", 3, "--metrics", "vendi"))
    line = next(line for line in out.splitlines() if line.startswith("vendi_inf"))
    assert "nan" not in line
    assert "no interval" in line
