"""The report is one safe, complete, self-contained page."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import pytest

from unison.evaluate.report import (
    ModelSamples,
    Picture,
    Report,
    Sample,
    Trace,
    render,
    spell,
    write_report,
)
from unison.types import Estimate

EVIL = "<script>alert('x')</script> \"&amp;\" <!-- </div>"
PIXEL = b"\x89PNG\r\n\x1a\nlight"
TRACE = Trace(
    frames=[["_", "_", "_"], ["_", " cat", "_"], ["the", " cat", EVIL]],
    changed=[[False] * 3, [False, True, False], [True, False, True]],
    settled=[[False] * 3, [False, True, False], [True] * 3],
)


def full(text=EVIL):
    estimate = Estimate(3.13912, 0.0421, 64, f"unit {text}")
    return Report(
        title=f"Title {text}",
        summary=[f"Summary {text}"],
        headlines={f"headline {text}": estimate},
        pictures=[Picture(PIXEL, f"caption {text}", f"alt {text}", b"dark")],
        models=[
            ModelSamples(
                f"model {text}", [Sample(8, text, {"gen_ppl": estimate}, TRACE)], f"note {text}"
            )
        ],
        settings={f"name {text}": f"value {text}"},
    )


class Page(HTMLParser):
    """What a browser would see: open tags with attributes, and text outside scripts and styles."""

    VOID = frozenset({"meta", "img", "source", "input"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.raw, self.text, self.stack = [], [], "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] in ("script", "style"):
            self.raw.append((self.stack[-1], data))
        else:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def replayed(page):
    """The frames, as the script of the page unpacks them."""
    data = json.loads(next(raw for tag, raw in page.raw if tag == "script" and raw[0] == "{"))
    frames, state = [], {}
    for places, words, _, _ in data["frames"]:
        state |= dict(zip(places, words, strict=True))
        frames.append([data["words"][state[place]] for place in range(len(state))])
    return frames, data["frames"]


def test_the_page_is_balanced_and_says_everything_it_was_given():
    page = Page(render(full()))
    assert page.stack == []
    for word in (
        "Title",
        "Summary",
        "headline",
        "unit",
        "caption",
        "model",
        "note",
        "name",
        "value",
    ):
        assert f"{word} {EVIL}" in page.text
    assert page.all("img")[0]["alt"] == f"alt {EVIL}"
    assert "3.139 ± 0.042" in page.text
    assert "n = 64" in page.text
    assert "8 steps" in page.text


def test_no_text_of_a_sample_becomes_markup():
    harmless, hostile = Page(render(full("x"))), Page(render(full(EVIL)))
    assert [tag for tag, _ in harmless.tags] == [tag for tag, _ in hostile.tags]
    assert EVIL not in render(full(EVIL))
    assert "<script>alert" not in render(full(EVIL))


def test_the_page_asks_for_nothing_outside_itself():
    text = render(full())
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text.replace(EVIL, ""))


def test_the_content_policy_admits_our_script_and_style_and_nothing_else():
    page = Page(render(full()))
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    code = [(tag, raw) for tag, raw in page.raw if not raw.startswith("{")]
    assert [tag for tag, _ in code] == ["style", "script"]
    for tag, raw in code:
        digest = base64.b64encode(hashlib.sha256(raw.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert all("style" not in attributes for _, attributes in page.tags)


def test_the_animation_holds_every_frame_what_changed_and_what_is_noise():
    frames, raw = replayed(Page(render(full())))
    assert frames == [list(frame) for frame in TRACE.frames]
    assert [changed for _, _, changed, _ in raw] == [[], [1], [0, 2]]
    assert [noise for _, _, _, noise in raw] == [[0, 1, 2], [0, 2], []]
    assert [places for places, *_ in raw] == [[0, 1, 2], [1], [0, 2]]


def test_a_process_that_does_not_say_what_is_settled_dims_nothing():
    trace = Trace([["a"], ["b"]], [[False], [True]])
    page = render(Report("t", models=[ModelSamples("m", [Sample(1, "b", trace=trace)])]))
    assert [noise for _, _, _, noise in replayed(Page(page))[1]] == [[], []]
    assert "1 step<" in page


def test_without_javascript_the_final_text_stands_there_and_dead_controls_do_not():
    page = Page(render(full()))
    assert any("hidden" in a for a in page.all("div") if a.get("class") == "controls")
    assert page.text.count(EVIL) > 0
    assert [a["aria-label"] for a in page.all("input")] == [f"Step of model {EVIL}, 8 steps"]


def test_a_sample_without_a_trace_has_no_player_and_empty_parts_leave_no_heading():
    page = Page(render(Report("t", models=[ModelSamples("m", [Sample(4, "text")])])))
    assert not page.all("button")
    assert [a["id"] for a in page.all("h2")] == ["samples"]
    assert not Page(render(Report("t"))).all("h2")


def test_pictures_have_a_version_for_dark_paper_only_where_one_was_drawn():
    page = Page(render(full()))
    assert page.all("source")[0]["srcset"].endswith(base64.b64encode(b"dark").decode())
    assert page.all("img")[0]["src"].endswith(base64.b64encode(PIXEL).decode())
    plain = Report("t", pictures=[Picture(PIXEL, "c", "a")])
    assert not Page(render(plain)).all("source")


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        ((3.13912, 0.0421), "3.139 ± 0.042"),
        ((71.23, 2.4), "71.2 ± 2.4"),
        ((12345.6, 321.0), "12,346 ± 321"),
        ((0.5, 0.0996), "0.500 ± 0.100"),
        ((8.0, 0.0), "8"),
        ((8.123456, math.nan), "8.123 ± ?"),
        ((math.nan, math.nan), "n/a"),
    ],
)
def test_an_estimate_is_written_to_the_digits_its_error_allows(estimate, words):
    assert spell(Estimate(*estimate, 9, "x")) == words


@pytest.mark.parametrize(
    ("frames", "changed", "settled"),
    [
        ([], [], None),
        ([["a"], ["a", "b"]], [[True], [True]], None),
        ([["a"]], [[True], [True]], None),
        ([["a"]], [[True]], [[True, False]]),
    ],
)
def test_a_trace_whose_rows_disagree_is_refused(frames, changed, settled):
    with pytest.raises(ValueError, match="trace"):
        Trace(frames, changed, settled)


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_report(full(), path)
    assert path.read_text(encoding="utf-8") == render(full())

    def fail(handle):
        raise OSError("disk full")

    before = path.read_bytes()
    monkeypatch.setattr("unison.files.sync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(Report("other"), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
