"""A page holds the frames of its traces and nothing that a browser could mistake for its own."""

import base64
import gzip
import hashlib
import json
import math
import re
import struct

import pytest
import tiny

from unison import trace, view
from unison.decode.diffusion.composed import Composed
from unison.decode.revise import WINO, Edit, Renoise
from unison.decode.select import EntropyBound, Threshold
from unison.decode.temper import Temper
from unison.evaluate.theme import DARK, LIGHT
from unison.generation import Sampling, generate
from unison.view import packing

HOT = Temper(1.0)
RUNS = {
    "blocks": ("mdlm", Composed(steps=4, block_length=4, temper=HOT)),
    "drafts": ("mdlm", Composed(select=Threshold(0.03), revise=WINO(0.05), temper=HOT)),
    "edits": ("mdlm", Composed(select=Threshold(0.05), revise=Edit(0.0), temper=HOT)),
    "ancestral": ("mdlm", "ancestral"),
    "uniform": ("duo", "ancestral"),
    "noise": ("duo", Composed(select=EntropyBound(1.0), revise=Renoise(), steps=4, temper=HOT)),
    "left to right": ("ar", "left_to_right"),
}


def recorded(name):
    """A run of two batches, of prompts of different lengths."""
    family, strategy = RUNS[name]
    recorder = trace.Recorder(tiny.model(family), Sampling(strategy), seed=3, num=2)
    generate(
        tiny.model(family), ["the ", "", "fox"], new_tokens=7, num=2, strategy=strategy, seed=3,
        batch_size=4, on_step=recorder,
    )  # fmt: skip
    return json.loads(json.dumps(recorder.document()))


@pytest.fixture(scope="module")
def documents():
    return {name: recorded(name) for name in RUNS}


def embedded(page):
    """The data of a page, as a browser finds it: up to the first end of its element."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


class Columns:
    """Whole numbers of four bytes, the lowest bytes of a column first."""

    def __init__(self, text):
        self.raw, self.at = gzip.decompress(base64.b64decode(text)), 0

    def take(self, count):
        planes = [self.raw[self.at + i * count : self.at + (i + 1) * count] for i in range(4)]
        self.at += 4 * count
        return [struct.unpack("<i", bytes(four))[0] for four in zip(*planes, strict=True)]


def lists(counts, values):
    """Cut values into lists of so many."""
    values = iter(values)
    return [[next(values) for _ in range(count)] for count in counts]


def places(gaps):
    found = []
    for gap in gaps:
        found.append((found[-1] if found else -1) + gap + 1)
    return found


def read_row(told, columns):
    """First canvas, and by step the candidates and actions of a row."""
    take, count = columns.take, told["moments"]
    canvas, gaps = take(told["length"]), take(count)
    proposals, deeds = take(count), take(count)
    where, tokens, sures = (lists(proposals, take(sum(proposals))) for _ in range(3))
    kinds, there, after = (lists(deeds, take(sum(deeds))) for _ in range(3))
    token, sure, made = [0] * told["length"], [0] * told["length"], {}
    for i, step in enumerate(sum(gaps[: i + 1]) for i in range(count)):
        candidates = []
        for at, t, s in zip(places(where[i]), tokens[i], sures[i], strict=True):
            token[at] += t
            sure[at] += s
            candidates.append((at, token[at], sure[at]))
        made[step] = candidates, list(zip(kinds[i], places(there[i]), after[i], strict=True))
    return canvas, made


@pytest.mark.parametrize("name", RUNS)
def test_the_frames_of_a_page_are_those_of_the_trace(name, documents):
    document = documents[name]
    data = embedded(view.page([document, documents["ancestral"]]))
    columns = Columns(data["packed"])
    rows = [read_row(told, columns) for told in data["traces"][0]["rows"]]
    canvases = [list(canvas) for canvas, _ in rows]
    frames = list(trace.replayed(document))
    assert canvases == [list(row) for row in frames[0].canvases]
    for frame in frames[1:]:
        moments = {moment.row: moment for moment in frame.moments}
        assert {i for i, (_, made) in enumerate(rows) if frame.step in made} == set(moments)
        for i, moment in moments.items():
            candidates, actions = rows[i][1][frame.step]
            assert [c[:2] for c in candidates] == [c[:2] for c in moment.candidates]
            for (_, _, sure), wanted in zip(candidates, moment.candidates, strict=True):
                assert abs(sure / 10_000 - wanted.confidence) <= 0.5001e-4
            assert [(packing.KINDS[kind], at, after) for kind, at, after in actions] == [
                (a.kind, a.position, a.after) for a in moment.actions
            ]
            for _, at, after in actions:
                canvases[i][at] = after
        assert canvases == [list(row) for row in frame.canvases]
    assert canvases == document["result"]
    for i, (told, row) in enumerate(zip(data["traces"][0]["rows"], document["rows"], strict=True)):
        assert (told["given"], told["prompt"]) == (row["given"], row["prompt"])
        assert told["nfe"] == sum(m.row == i for frame in frames for m in frame.moments)
    for told in data["traces"][1]["rows"]:
        read_row(told, columns)
    assert columns.at == len(columns.raw), "nothing but the traces is in the page"


def test_a_page_says_what_was_run_and_what_it_cost(documents):
    told = embedded(view.page([documents["drafts"]], names=["a.json"]))["traces"][0]
    facts = dict(told["facts"])
    assert facts["strategy"] == "Composed"
    assert facts["strategy.select"] == "Threshold"
    assert facts["strategy.select.threshold"] == "0.03"
    assert facts["strategy.revise"] == "WINO"
    assert facts["seed"] == "3"
    assert facts["versions.torch"] == documents["drafts"]["versions"]["torch"]
    assert told["name"] == "a.json"
    assert told["label"].startswith("absorbing, Composed of Confidence, Threshold, WINO")
    row = told["rows"][0]
    assert row["rate"] == pytest.approx(7 / row["nfe"], abs=1e-3)


NASTY = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>\u2028\u2029",
    "&lt;b&gt;",
    "\ud800",
    "\x00\x1b",
]


def test_what_models_wrote_is_data_and_never_markup(documents):
    document = json.loads(json.dumps(documents["ancestral"]))
    numbers = list(document["texts"])[: len(NASTY)]
    document["texts"].update(zip(numbers, NASTY, strict=True))
    document["strategy"] = {"kind": "</script><img src=x onerror=alert(1)>"}
    page = view.page([document], title="<b>&\ud800", names=["</title><script>x"])
    page.encode("utf-8")
    data = embedded(page)
    assert [data["traces"][0]["texts"][number] for number in numbers] == NASTY
    assert data["traces"][0]["name"] == "</title><script>x"
    assert page.count("<script") == 2, "the data and our own"
    assert page.count("</script>") == 2
    assert "<title>&lt;b&gt;&amp;?</title>" in page
    assert not set("\u2028\u2029\x00") & set(page)


def test_the_policy_of_a_page_allows_its_own_style_and_script_alone(documents):
    page = view.page([documents["ancestral"]])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for element in ("style", "script"):
        content = re.search(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_a_page_is_the_same_every_time(documents):
    assert view.page([documents["edits"]]) == view.page([documents["edits"]])


def test_the_colours_are_those_of_the_figures():
    rules = view.colours()
    light, dark = rules.split("@media(prefers-color-scheme:dark)")
    for theme, said in ((LIGHT, light), (DARK, dark)):
        assert f"--paper:{theme.paper};" in said
        assert all(f"--hue-{i}:{hue}" in said for i, hue in enumerate(theme.palette, 1))


def _set(*path):
    """Damage: put the last of the path where the others lead."""

    def damage(document):
        *way, name, value = path
        for key in way:
            document = document[key]
        document[name] = value

    return damage


def _nested(depth):
    made = {}
    for _ in range(depth):
        made = {"part": made}
    return made


DAMAGE = {
    "foreign": (_set("format", "other"), "is no trace"),
    "rows are no list": (_set("rows", 3), "does not hold what a trace holds"),
    "a row without tokens": (_set("rows", 0, {"given": []}), "KeyError: 'tokens'"),
    "given beyond the canvas": (_set("rows", 0, "given", [[0, 10_000]]), "are given"),
    "given twice": (_set("rows", 0, "given", [[0, 2], [1, 3]]), "1 to 3 of 11 are given, after 2"),
    "a token that is a word": (_set("rows", 0, "tokens", 0, "x"), "does not hold"),
    "a token of 40 bits": (_set("rows", 0, "tokens", 0, 2**40), "does not hold"),
    "a step out of order": (_set("steps", 1, "step", 1), "step 1 comes after step 1"),
    "a row that is not there": (_set("steps", 0, "rows", 0, "row", -1), "there is no row -1"),
    "a strange kind": (_set("steps", 0, "rows", 0, "actions", 0, 0, "burn"), "does not hold"),
    "a wrong token": (_set("steps", 0, "rows", 0, "actions", 0, 2, 1), "does not stand there"),
    "a wrong place": (_set("steps", 0, "rows", 0, "actions", 0, 1, -1), "outside"),
    "another result": (_set("result", 0, []), "do not lead to its result"),
    "too few results": (_set("result", []), "6 rows and 0 results"),
    "a model without facts": (_set("model", []), "header is not that of a trace"),
    "texts without numbers": (_set("texts", {"a": "b"}), "header is not that of a trace"),
    "a strange mask": (_set("model", "mask_id", "m"), "its mask is 'm'"),
    "a strange cost": (_set("evaluations_per_step", "x" * 99), "evaluations of a step are 'xxx"),
    "an endless cost": (_set("evaluations_per_step", math.inf), "evaluations of a step are inf"),
    "an endless prompt": (_set("rows", 0, "prompt", math.inf), "header is not that of a trace"),
    "a bottomless strategy": (_set("strategy", _nested(5_000)), "header is not that of a trace"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_trace_is_refused_with_its_name_and_a_reason(name, documents):
    damage, message = DAMAGE[name]
    document = json.loads(json.dumps(documents["blocks"]))
    damage(document)
    with pytest.raises(trace.TraceError, match=message) as refused:
        view.page([documents["edits"], document])
    assert str(refused.value).startswith("trace 2")


def test_traces_too_large_for_a_browser_are_refused(documents, monkeypatch):
    monkeypatch.setattr("unison.view.rendering.CELLS", 10)
    with pytest.raises(trace.TraceError, match="at most 10; show fewer"):
        view.page([documents["blocks"]])


def test_a_page_of_no_traces_or_with_too_few_names_is_refused(documents):
    with pytest.raises(ValueError, match="there is no trace to show"):
        view.page([])
    with pytest.raises(ValueError, match="1 traces and 2 names"):
        view.page([documents["edits"]], names=["a", "b"])


def test_a_confidence_nobody_knows_stays_unknown(documents):
    document = json.loads(json.dumps(documents["blocks"]))
    candidate = document["steps"][0]["rows"][0]["candidates"][0]
    for unknown in (None, -1, 3.5):
        candidate[2] = unknown
        data = embedded(view.page([document]))
        _, made = read_row(data["traces"][0]["rows"][0], Columns(data["packed"]))
        assert made[1][0][0] == (candidate[0], candidate[1], -1)
