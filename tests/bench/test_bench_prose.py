"""Prose is asked for from any text file, and measured as a whole against it."""

import pytest

from unison.bench.surveys import SURVEYS, Survey
from unison.bench.surveys.prose import Prose
from unison.bench.surveys.survey import Text
from unison.evaluate.judge import NGramJudge
from unison.evaluate.ngram import NGram
from unison.evaluate.novelty import novelty
from unison.evaluate.panel import Panel
from unison.evaluate.samples import sample_metrics
from unison.suites import SuiteError, made, spelt

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "while", "rain"]


def text_of(seed, count):
    state, words = seed, []
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        words.append(WORDS[state // 65536 % len(WORDS)])
    return " ".join(words)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "book.txt").write_text(text_of(1, 4000), encoding="utf-8")
    return tmp_path / "book.txt"


def texts_of(seed, count=12, length=30):
    return [
        Text(text, tuple(text.encode()), "")
        for text in (text_of(seed * 1000 + i, length) for i in range(count))
    ]


def test_prose_is_a_survey_that_one_line_names(path):
    label = f"prose:path={path},prefix=12,length=40,metrics=vendi+novelty"
    survey = made(SURVEYS["prose"], label, spelt(label).settings)
    assert isinstance(survey, Survey)
    assert survey == Prose(path, 12, 40, metrics="vendi+novelty")


@pytest.mark.parametrize("prefix", [0, 25])
def test_prompts_and_what_follows_are_passages_of_the_file_from_the_start_of_a_word(path, prefix):
    problems = Prose(path, prefix=prefix, length=60).problems(20, seed=3)
    book = f" {path.read_text()}"
    for problem in problems:
        assert len(problem.prompt) == prefix
        assert len(problem.answer) == 60
        assert f" {problem.prompt}{problem.answer}" in book
    assert len({problem.name for problem in problems}) == 20
    assert len({problem.answer for problem in problems}) > 15


def test_the_first_problems_do_not_depend_on_how_many_are_asked_for(path):
    survey = Prose(path, prefix=10)
    assert survey.problems(3, 5) == survey.problems(9, 5)[:3]
    assert survey.problems(3, 5) != survey.problems(3, 6)


def test_measures_are_those_of_the_samples_against_the_file(path):
    texts, book = texts_of(4), [path.read_text()]
    got = Prose(path).measure(texts)
    plain = [text.text for text in texts]
    panel = Panel(("compression", "duplicates", "novelty", "vendi"), book)
    rows = [list(text.tokens) for text in texts]
    assert got == sample_metrics(rows, plain, NGramJudge(NGram.fit(book)), panel)
    assert got["novel_4"] == novelty(plain, book)["novel_4"]
    assert {"gen_ppl", "entropy", "vendi_1", "copied", "compression_to_reference"} <= {*got}
    assert not {"vendi_1", "copied"} & {*Prose(path, metrics="none").measure(texts)}


def test_noise_is_less_like_the_file_than_its_own_words(path):
    alike = texts_of(4)
    turned = [Text(t.text[::-1], tuple(t.text[::-1].encode()), "") for t in alike]
    own, other = Prose(path).measure(alike), Prose(path).measure(turned)
    assert other["gen_ppl"].value > 3 * own["gen_ppl"].value
    assert other["novel_1"].value > 0.5 > own["novel_1"].value
    # Reversing keeps letters, words and their repetition.
    assert other["entropy"].value == pytest.approx(own["entropy"].value)
    assert other["vendi_1"].value == pytest.approx(own["vendi_1"].value, rel=1e-9)


def test_mauve_is_measured_where_it_is_asked_for(path):
    pytest.importorskip("mauve", reason="needs the extra 'eval'")
    got = Prose(path, metrics="mauve", features="chars:3")
    assert 0 < got.measure(texts_of(2))["mauve"].value <= 1
    assert got.measure(texts_of(2))["mauve"].unit == "MAUVE (char 3-grams)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("prefix=-1", "prefix must be"),
        ("length=0", "length must be"),
        ("metrics=vendy", "did you mean 'vendi'"),
        ("features=letters", "no features 'letters'"),
        ("prefx=1", "did you mean 'prefix'"),
    ],
)
def test_settings_that_mean_nothing_are_refused_when_they_are_read(path, settings, message):
    label = f"prose:path={path},{settings}"
    with pytest.raises(SuiteError, match=message):
        made(SURVEYS["prose"], label, spelt(label).settings)


def test_a_file_or_judge_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path, path):
    for survey, message in (
        (Prose(tmp_path / "none.txt"), "none.txt"),
        (Prose(path, length=10**6), "smaller prefix or length"),
        (Prose(path, judge="nobody"), "no judge 'nobody'"),
    ):
        with pytest.raises(SuiteError, match=message):
            survey.problems(1, 0)


@pytest.mark.parametrize("odd", ["", "x", "🙂" * 500, "\n\n", "\x00\ufffd"])
def test_one_odd_text_among_others_does_not_stop_the_measurement(path, odd):
    got = Prose(path).measure([*texts_of(3), Text(odd, tuple(range(len(odd))), "")])
    assert got["gen_ppl"].n == 13
