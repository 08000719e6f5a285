"""A bench's report says all that was measured, nothing that was not, and stays what it says."""

import base64
import dataclasses
import hashlib
import html
import importlib.util
import itertools
import math
import re
from html.parser import HTMLParser

import benching
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from unison.bench import BenchError
from unison.bench.record import Asked, Interval, Result
from unison.bench.report import drawing, frontier, markdown, naming, summary, tables
from unison.bench.report import html as page
from unison.bench.report.document import Document, Figure, Section, Table
from unison.bench.report.printable import printable
from unison.evaluate import figures
from unison.evaluate.labels import Box, Wanted, placed
from unison.evaluate.scatter import Cloud, Scatter, Spot
from unison.types import Estimate

EVIL = (
    "<script>alert(1)</script> | `x` *b* _i_ [a](http://e.x) ![i](//e.x) <!-- --> $x$ ~~s~~ "
    "www.e.x me@e.x \\| \\\\ &amp; :smile: \u202eback"
)
drawn = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs the extra 'plot'"
)


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(drawing.importlib.util, "find_spec", lambda name: None)


def bench(**changes):
    asked = [Asked("m", "copy", "x"), Asked("m", "copy", "y")]
    written = {a: benching.answers_of([1, 0, 1, 1], nfe=4 + 4 * i) for i, a in enumerate(asked)}
    return [benching.done(a, written[a], **changes) for a in asked], written.__getitem__


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and text outside scripts and styles."""

    VOID = frozenset({"meta", "img", "source", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.raw, self.text, self.stack = [], [], "", []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] in ("script", "style"):
            self.raw.append((self.stack[-1], data))
        else:
            self.text += data


def everywhere(text):
    """A document with one text in every place that has room for one."""
    figure = Figure("f", b"light", b"dark", b"<svg/>", text, text)
    section = Section(
        text, [text], [Table([text, "n"], [[text, "1"], ["x", text]], text)], [figure]
    )
    return Document(text, [text], [section], [(text, text)])


def seen_markdown(text):
    """Tags and text of Markdown as CommonMark with tables renders it."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    seen = Page(reader.render(text))
    return [tag for tag, _ in seen.tags], seen.text


def test_no_text_becomes_markup_in_the_page():
    harmless, hostile = Page(page.render(everywhere("x"))), Page(page.render(everywhere(EVIL)))
    assert [tag for tag, _ in harmless.tags] == [tag for tag, _ in hostile.tags]
    assert hostile.text.count(printable(EVIL)) >= 9
    assert [raw for _, raw in harmless.raw] == [raw for _, raw in hostile.raw]


def test_no_text_becomes_markup_in_markdown():
    harmless, hostile = (seen_markdown(markdown.render(everywhere(t))) for t in ("x", EVIL))
    assert harmless[0] == hostile[0]
    assert hostile[1].count(printable(EVIL)) >= 8
    assert not re.search(r"https?://|www\.|\w@\w|:smile:", markdown.render(everywhere(EVIL)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(st.sampled_from("ab1 \n\t|\\`*_[]()<>&#!~$:@-+=.\u202e\x00\ud800é"), max_size=14))
def test_any_text_is_read_back_from_markdown_as_it_was(text):
    rendered = markdown.render(
        Document("t", [text], [Section("s", tables=[Table([text, "b"], [[text, "1"]])])])
    )
    tags, seen = seen_markdown(rendered)
    rendered.encode("utf-8")
    assert set(tags) <= {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "br"}
    shown = "".join(printable(text).split())
    assert "".join(seen.split()) == f"t{shown}s{shown}b{shown}1"


def test_controls_and_halves_of_characters_are_shown_as_numbers():
    assert printable("a\x00\u202e\ud800\r\n\tb") == "a⟨U+0000⟩⟨U+202E⟩⟨U+D800⟩⟨U+000D⟩\n\tb"
    assert printable("नमस्ते 👩\u200d🔬 ﷺ 中") == "नमस्ते 👩\u200d🔬 ﷺ 中"


def test_the_page_asks_for_nothing_outside_itself_and_admits_only_our_code():
    text = page.render(everywhere("x"))
    seen = Page(text)
    for _, attributes in seen.tags:
        for name in ("src", "srcset", "href"):
            assert re.match("data:|#", attributes.get(name, "data:"))
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?:|@import|url\(", text)
    policy = next(a["content"] for tag, a in seen.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert [tag for tag, _ in seen.raw] == ["style", "script"]
    for tag, raw in seen.raw:
        digest = base64.b64encode(hashlib.sha256(raw.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_the_page_can_be_read_without_sight_of_it():
    seen = Page(page.render(everywhere("words")))
    ids = [a["id"] for _, a in seen.tags if "id" in a]
    assert len(ids) == len(set(ids))
    named = [a["aria-labelledby"] for tag, a in seen.tags if tag == "section"]
    assert set(named) <= set(ids)
    assert all(a["alt"] == "words" for tag, a in seen.tags if tag == "img")
    assert all(a["scope"] in ("col", "row") for tag, a in seen.tags if tag == "th")
    boxes = [a for tag, a in seen.tags if a.get("role") == "region"]
    assert [(a["tabindex"], a["aria-label"]) for a in boxes] == [("0", "words, table 1")]


def test_numbers_stand_at_the_right_and_words_at_the_left():
    rows = [["a", "1.5 [1, 2]", "skipped", "3 apples?"], ["b", "—", "-2e-05", "x"]]
    assert markdown.numeric(Table(["n"] * 4, rows)) == [False, True, True, False]
    assert "|---|---:|---:|---|" in markdown.render(
        Document("t", sections=[Section("s", tables=[Table(["n"] * 4, rows)])])
    )


def test_every_cell_stands_in_its_table_with_its_numbers(no_figures):
    results, answers = bench()
    report = summary.document(results, answers)
    main, resources = report.sections[0].tables[:2]
    row = dict(zip(main.columns, main.rows[1], strict=True))
    low, high = (100 * end for end in results[1].accuracy[1:3])
    assert row["accuracy, %"] == f"75.0 [{low:.1f}, {high:.1f}]"
    assert (row["NFE"], row["tokens/forward"], row["tokens/s"]) == ("8", "2.00", "32.0")
    row = dict(zip(resources.columns, resources.rows[0], strict=True))
    assert row["first token, s"] == "0.0200"
    assert row["first block, s"] == "0.200"
    assert row["memory, MiB"] == "321"
    assert row["overhead, %"] == "1.2"


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_a_cell_that_was_not_measured_stands_with_its_reason_and_without_a_number(
    no_figures, status
):
    results, answers = bench()
    results.append(Result(Asked("n", "copy", "x"), status, reason="there is no mask token"))
    report = summary.document(results, answers)
    main = next(s for s in report.sections if s.heading == "copy").tables[0]
    row = dict(zip(main.columns, main.rows[-1], strict=True))
    assert row.pop("remark") == f"{status}: there is no mask token"
    assert (row.pop("model"), row.pop("strategy")) == ("n", "x")
    assert row.pop("front") == ""
    assert set(row.values()) == {"—"}
    unfinished = next(s for s in report.sections if s.heading == "Not measured")
    assert list(unfinished.tables[0].rows[0]) == [
        "n", "copy", "x", status, "there is no mask token",
    ]  # fmt: skip
    assert f"1 {status}" in report.summary[0]


def test_a_bench_in_which_nothing_was_measured_still_has_a_report(no_figures):
    results = [Result(Asked("m", "copy", "x"), "failed", reason="no such file")]
    report = summary.document(results, lambda asked: [])
    assert "no such file" in markdown.render(report)
    assert "No cell of this task was measured." in page.render(report)


def test_groups_are_told_from_small_to_large(no_figures):
    answers = benching.answers_of([1, 1, 0, 0, 1, 0], groups=("n=10", "n=5", "n=5.5"))
    result = benching.done(Asked("m", "copy", "x"), answers)
    table = tables.groups([result])
    assert list(table.columns[2:]) == ["n=5", "n=5.5", "n=10"]
    assert [cell.split(" ")[0] for cell in table.rows[0][2:]] == ["100.0", "0.0", "50.0"]


def test_what_is_measured_of_a_whole_stands_with_unit_and_error(no_figures):
    results, answers = bench(
        accuracy=None, groups={}, metrics={"gen_ppl": Estimate(41.27, 1.3, 64, "perplexity (n)")}
    )
    report = summary.document(results, answers)
    table = next(t for t in report.sections[0].tables if "gen ppl, perplexity (n)" in t.columns)
    assert table.rows[0][-1] == "41.3 ± 1.3"
    assert "accuracy, %" not in report.sections[0].tables[0].columns


def test_right_and_wrong_answers_are_shown_with_why_each_of_another_model(no_figures):
    asked = [Asked(m, "copy", w) for m in "mn" for w in "xy"]
    written = {a: benching.answers_of([1, 0, 1, 0]) for a in asked}
    long = dataclasses.replace(written[asked[0]][0], text="z" * 1000)
    written[asked[0]][0] = long
    results = [benching.done(a, written[a]) for a in asked]
    report = summary.document(results, written.__getitem__)
    rows = report.sections[0].tables[-1].rows
    assert [row[0] for row in rows] == ["m", "n", "m"] * 2
    assert [row[5] for row in rows] == ["1"] * 3 + ["0"] * 3
    assert [row[6] for row in rows] == [""] * 3 + ["wanted more"] * 3
    assert rows[0][3] == "z" * 400 + "… (600 more characters)"


def test_all_that_decides_the_numbers_is_told_once(no_figures):
    results, answers = bench()
    other = {**benching.ENVIRONMENT, "load": [2.5, 0.2, 0.3]}
    results[1] = dataclasses.replace(results[1], environment=other)
    report = summary.document(results, answers)
    told = dict(report.settings)
    assert told["versions.torch"] == "2.9.1"
    assert told["git.commit"] == "0123456789abcdef"
    assert (told["seed"], told["batch_size"], told["dtype"]) == ("0", "16", "float32")
    assert told["machine.gpus"] == "none"
    assert told["load"] == "0.1, 0.2, 0.3; 2.5, 0.2, 0.3 (between cells)"
    text = markdown.render(report)
    assert text.count(results[0].prompts_sha256) == 1
    assert text.count(results[0].model["weights_sha256"]) == 1
    assert "temperature=0, cache=none" in text


def test_equal_results_give_equal_files_and_the_later_of_two_results_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(frontier, "AXES", frontier.AXES[:1])
    results, answers = bench()
    failed = Result(results[0].asked, "failed", reason="first try")
    for name, cells in (("a", results), ("b", [failed, *results])):
        (tmp_path / name).mkdir()
        summary.write(tmp_path / name, summary.document(cells, answers))
    read = [
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")}
        for n in "ab"
    ]
    assert read[0] == read[1]
    assert {"summary.md", "report.html"} <= {path.name for path in read[0]}


@drawn
def test_a_report_is_written_with_its_figures_as_png_and_svg(tmp_path):
    results, answers = bench()
    report = summary.document(results, answers, [Section("Theory", ["closed form"])])
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "stale.png").write_bytes(b"")
    summary.write(tmp_path, report)
    names = {f"frontier-copy-{key}.{kind}" for key in ("nfe", "tokens", "seconds")
             for kind in ("png", "svg")}  # fmt: skip
    assert {p.name for p in (tmp_path / "figures").iterdir()} == names
    text = (tmp_path / "summary.md").read_text()
    assert all(f"(figures/{name})" in text for name in names if name.endswith("png"))
    assert text.index("## copy") < text.index("## Theory") < text.index("## What decides")
    png = base64.b64encode((tmp_path / "figures/frontier-copy-nfe.png").read_bytes()).decode()
    assert png in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.glob(".*"))


def test_without_matplotlib_the_tables_come_and_the_report_says_how_to_get_figures(
    tmp_path, no_figures
):
    results, answers = bench()
    summary.write(tmp_path, summary.document(results, answers))
    assert {p.name for p in tmp_path.iterdir()} == {"summary.md", "report.html"}
    text = (tmp_path / "summary.md").read_text()
    assert "pip install 'unison\\[plot]'" in text or "pip install 'unison[plot]'" in text
    assert "75.0" in text


@pytest.mark.parametrize(
    ("names", "message"), [(["a", "a"], "Two figures"), (["../a"], "cannot be a file")]
)
def test_figures_that_would_overwrite_something_are_refused(tmp_path, names, message):
    made = [Figure(name, b"", b"", b"", "c", "a") for name in names]
    with pytest.raises(BenchError, match=message):
        summary.write(tmp_path, Document("t", sections=[Section("s", figures=made)]))
    assert not list(tmp_path.iterdir())


def test_tasks_whose_names_differ_in_signs_only_have_figures_of_their_own():
    assert summary._file_names(["copy:items=5", "copy:items5", "copy:items=5!"]) == {
        "copy:items=5": "copy-items-5",
        "copy:items5": "copy-items5",
        "copy:items=5!": "copy-items-5-2",
    }


def points(pairs):
    """Cells with an accuracy and an NFE."""
    return [
        Result(
            Asked("m", "t", f"s{i}"),
            "done",
            accuracy=Interval(accuracy, 0.0, 1.0, 10),
            nfe=Estimate(nfe, 0.0, 10, "evaluations"),
        )
        for i, (accuracy, nfe) in enumerate(pairs)
    ]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=8))
def test_the_front_is_every_cell_that_no_other_one_beats(pairs):
    results = points([(a / 4, float(nfe)) for a, nfe in pairs])
    beaten = {
        i
        for i, j in itertools.permutations(range(len(pairs)), 2)
        if pairs[j][0] >= pairs[i][0] and pairs[j][1] <= pairs[i][1] and pairs[i] != pairs[j]
    }
    kept = {f"s{i}" for i in range(len(pairs))} - {f"s{i}" for i in beaten}
    assert {asked.strategy for asked in frontier.front(results, frontier.AXES[0])} == kept


def test_on_an_axis_where_more_is_better_the_front_turns_around():
    results = [
        dataclasses.replace(r, tokens_per_forward=t)
        for r, t in zip(points([(0.9, 1), (0.5, 1), (0.4, 1)]), (1.0, 4.0, 2.0), strict=True)
    ]
    front = frontier.front(results, frontier.AXES[1])
    assert [asked.strategy for asked in front] == ["s1", "s0"]
    assert frontier.marks(results)[results[1].asked] == "tokens"


def test_the_line_of_the_front_never_runs_above_what_was_measured():
    corners = frontier._corners([(2.0, 30.0), (4.0, 50.0), (8.0, 55.0)])
    assert corners == [(2.0, 30.0), (4.0, 30.0), (4.0, 50.0), (8.0, 50.0), (8.0, 55.0)]
    assert frontier._corners([]) == []


def test_cells_without_a_price_or_an_accuracy_are_not_on_the_front():
    results = points([(0.9, math.nan), (0.5, 4.0)])
    results.append(dataclasses.replace(results[1], asked=Asked("m", "t", "z"), accuracy=None))
    assert [a.strategy for a in frontier.front(results, frontier.AXES[0])] == ["s1"]


def test_short_names_keep_apart_what_the_long_ones_do():
    names = ["runs/a/base", "runs/b/base", "runs/b/student", "/models/llada", "x"]
    assert list(naming.models(names).values()) == ["a/base", "b/base", "student", "llada", "x"]
    ways = ["threshold:threshold=0.9,block=32", "threshold:threshold=0.7,block=32", "llada:steps=8"]
    assert list(naming.strategies(ways).values()) == ["threshold 0.9", "threshold 0.7", "llada 8"]
    assert naming.strategies(["a:b"]) == {"a:b": "a:b"}


def test_names_of_points_never_cover_another_name_a_point_or_the_edge():
    paper = Box(0.0, 0.0, 600.0, 400.0)
    crowd = [
        Wanted((50.0 + 37 * i % 520, 30.0 + 53 * i % 340), 90.0, 14.0, i % 3 == 0)
        for i in range(40)
    ]
    boxes = placed(crowd, [Box(0.0, 200.0, 600.0, 202.0)], paper, 1.0)
    there = [box for box in boxes if box is not None]
    assert len(there) > 15
    assert not any(a.shared(b) for a, b in itertools.combinations(there, 2))
    assert all(paper.holds(box) for box in there)
    for box, own in zip(boxes, crowd, strict=True):
        if box is not None:
            assert all(box.distance(own.point) <= box.distance(each.point) for each in crowd)
            assert all(box.distance(each.point) > 0 for each in crowd)


def test_a_name_takes_a_free_place_rather_than_crossing_a_line():
    paper, line = Box(0.0, 0.0, 300.0, 200.0), Box(90.0, 99.0, 200.0, 101.0)
    [box] = placed([Wanted((100.0, 100.0), 60.0, 10.0)], [line], paper, 1.0)
    assert not box.shared(line)
    [edge] = placed([Wanted((295.0, 100.0), 60.0, 10.0)], [], paper, 1.0)
    assert edge.right < 295


def test_of_two_that_want_one_place_the_first_on_the_front_has_it():
    pair = [Wanted((100.0, 100.0), 400.0, 10.0), Wanted((110.0, 104.0), 400.0, 10.0, True)]
    boxes = placed(pair, [], Box(0.0, 90.0, 520.0, 110.0), 1.0)
    assert [box is None for box in boxes] == [True, False]


@drawn
def test_points_bars_and_front_are_drawn_where_they_were_given(monkeypatch):
    from matplotlib.figure import Figure as Drawing

    seen, save = [], Drawing.savefig
    monkeypatch.setattr(
        Drawing, "savefig", lambda f, *a, **k: (seen.append(f), save(f, *a, **k))[1]
    )
    spots = [Spot("fast", 4, 40.0, (3, 5), (30.0, 50.0), True), Spot("slow", 32, 60.0)]
    panel = Scatter(
        [Cloud("a", spots), Cloud("b", [Spot("nowhere", 0, 10.0), Spot("", 8, math.nan)])],
        "NFE", "accuracy, %", front=[(4, 40.0), (32, 40.0), (32, 60.0)], y_range=(0.0, 100.0),
    )  # fmt: skip
    png = figures.drawn([panel])
    [axes] = seen[0].axes
    [bars] = axes.containers
    assert list(bars.lines[0].get_xdata()) == [4, 32]
    across, along = (lines.get_segments() for lines in bars.lines[2])
    assert across[0][:, 0].tolist() == [3, 5]
    assert along[0][:, 1].tolist() == [30, 50]
    assert axes.lines[0].get_xydata().tolist() == [[4, 40], [32, 40], [32, 60]]
    assert axes.get_xscale() == "log"
    assert {text.get_text() for text in axes.texts} == {"fast", "slow"}
    assert figures.drawn([panel]) == png


@drawn
def test_vector_figures_repeat_to_the_byte_and_bear_no_date():
    panel = Scatter([Cloud("a", [Spot("x", 1, 2.0), Spot("y", 3, 4.0)])], "x", "y", log_x=False)
    first, again = (figures.drawn([panel], kind="svg") for _ in range(2))
    assert first == again
    assert first.startswith(b"<?xml")
    assert b"<dc:date>" not in first
    assert figures.drawn([panel], kind="svg", dark=True) != first


@drawn
def test_a_whole_bench_becomes_one_document(monkeypatch):
    monkeypatch.setattr(frontier, "AXES", frontier.AXES[:1])
    cells = benching.large_bench(12)
    written = {r.asked: a for r, a in cells}
    report = summary.document(
        [r for r, _ in cells if r.asked.task == "sudoku"], written.__getitem__
    )
    assert [len(s.figures) for s in report.sections if s.heading == "sudoku"] == [1]
    figure = next(f for s in report.sections for f in s.figures)
    assert "On the front:" in figure.alt
    assert len({figure.png, figure.dark, figure.svg}) == 3
    assert html.escape("the model takes at most 256") in page.render(report)
