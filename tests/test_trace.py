"""A trace is the run: replayed, it ends where the run ended, and every change in it has a name."""

import json

import pytest
import tiny
import torch

from unison import trace
from unison.cli.show import Screen, folded
from unison.decode.diffusion.composed import Composed
from unison.decode.revise import WINO, Edit, Renoise
from unison.decode.select import EntropyBound, Threshold
from unison.decode.temper import Temper
from unison.generation import Sampling, choose, generate

HOT = Temper(1.0)
RUNS = {
    "composed": ("mdlm", Composed(steps=4, block_length=4, temper=HOT)),
    "drafts": ("mdlm", Composed(select=Threshold(0.03), revise=WINO(0.05), temper=HOT)),
    "edits": ("mdlm", Composed(select=Threshold(0.05), revise=Edit(0.0), temper=HOT)),
    "ancestral": ("mdlm", "ancestral"),
    "uniform": ("duo", "ancestral"),
    "noise": (
        "duo",
        Composed(select=EntropyBound(1.0), revise=Renoise(), steps=4, temper=HOT),
    ),
    "left to right": ("ar", "left_to_right"),
}


@pytest.fixture(scope="module")
def recorded():
    """Each run's samples and document, two batches of prompts of different lengths."""

    def record(name):
        family, strategy = RUNS[name]
        model = tiny.model(family)
        recorder = trace.Recorder(model, Sampling(strategy), seed=3, num=2)
        samples = generate(
            model, ["the ", "", "fox"], new_tokens=7, num=2, strategy=strategy, seed=3,
            batch_size=4, on_step=recorder,
        )  # fmt: skip
        return model, samples, recorder.document()

    return {name: record(name) for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_a_trace_replayed_ends_with_the_texts_that_were_written(name, recorded, tmp_path):
    _, samples, document = recorded[name]
    trace.write(tmp_path / "t.json", document)
    read = trace.read(tmp_path / "t.json")
    frames = list(trace.replayed(read))
    assert [list(row) for row in frames[-1].canvases] == [s.tokens for s in samples]
    assert read["result"] == [s.tokens for s in samples]
    assert len(frames) == 1 + max(sample.nfe for sample in samples)
    taken = [sum(m.row == i for f in frames for m in f.moments) for i in range(6)]
    assert taken == [sample.nfe for sample in samples], "a row takes part until it is done"
    assert [row["prompt"] for row in read["rows"]] == [0, 0, 1, 1, 2, 2]
    for sample, row in zip(samples, read["rows"], strict=True):
        places = trace.given_places(row)
        assert places == {i for i, given in enumerate(sample.given) if given}
        assert [row["tokens"][i] for i in sorted(places)] == [sample.tokens[i] for i in places]
    assert list(tmp_path.iterdir()) == [tmp_path / "t.json"], "nothing temporary is left"


@pytest.mark.parametrize("name", [n for n, (family, _) in RUNS.items() if family == "mdlm"])
def test_actions_say_what_was_done_where_a_mask_means_undecided(name, recorded):
    model, samples, document = recorded[name]
    mask, seen = model.process.mask_id, set()
    canvases = [list(row["tokens"]) for row in document["rows"]]
    last = {}
    for frame in trace.replayed(document):
        for moment in frame.moments:
            for kind, place, before, after in moment.actions:
                seen.add(kind)
                assert canvases[moment.row][place] == before
                assert (kind == "commit") == (before == mask)
                assert (kind == "remask") == (after == mask)
                assert (kind == "edit") == (mask not in (before, after))
                last[moment.row, place] = frame.step
        canvases = [list(row) for row in frame.canvases]
    assert {"drafts": {"commit", "remask"}, "edits": {"commit", "edit"}}.get(
        name, {"commit"}
    ) == seen
    for number, sample in enumerate(samples):
        wrote = [last.get((number, place), 0) for place in range(len(sample.tokens))]
        assert wrote == sample.step, "the last change of a position is when its token was written"


def test_under_noise_what_was_proposed_is_text_and_the_rest_is_noise(recorded):
    _, _, document = recorded["noise"]
    kinds = {"commit": 0, "edit": 0, "renoise": 0}
    for frame in trace.replayed(document):
        for moment in frame.moments:
            proposed = {c.position: c.token for c in moment.candidates}
            for action in moment.actions:
                kinds[action.kind] += 1
                assert (action.kind == "renoise") == (action.after != proposed[action.position])
    assert min(kinds.values()) > 0


def test_candidates_are_the_tokens_and_probabilities_the_parts_judged(recorded):
    _, samples, document = recorded["composed"]
    for frame in trace.replayed(document):
        for moment in frame.moments:
            proposed = {c.position: c for c in moment.candidates}
            for action in moment.actions:
                candidate = proposed[action.position]
                assert candidate.token == action.after
                if samples[moment.row].step[action.position] == frame.step:
                    sure = samples[moment.row].confidence[action.position]
                    assert candidate.confidence == pytest.approx(sure, abs=1e-6)


def test_a_trace_names_the_model_the_strategy_with_all_its_settings_and_the_versions(recorded):
    model, _, document = recorded["composed"]
    told = document["strategy"]
    assert (told["kind"], told["steps"], told["block_length"]) == ("Composed", 4, 4)
    assert told["temper"] == {
        "kind": "Temper", "temperature": 1.0, "final": None, "top_k": None, "top_p": 1.0
    }  # fmt: skip
    assert told["order"]["kind"] == "Confidence"
    assert told["eos_ids"] == list(choose(model, Sampling(RUNS["composed"][1])).eos_ids)
    assert document["seed"] == 3
    assert document["model"]["process"] == "absorbing"
    assert document["model"]["mask_id"] == model.process.mask_id
    assert document["versions"]["torch"] == torch.__version__
    for row in document["result"]:
        assert all(model.text([t], show_special=True) == document["texts"][str(t)] for t in row)


DAMAGE = {
    "missing": (None, "there is no trace"),
    "no JSON": ("{", "is no trace"),
    "another file": ('{"format": "unison"}', "is no trace; generate --trace writes one"),
    "newer": ('{"format": "unison-trace", "format_version": 2}', "newer than 1"),
    "half": ('{"format": "unison-trace", "format_version": 1, "rows": []}', "lacks model, steps"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_is_no_trace_is_refused_with_a_reason(name, tmp_path):
    content, message = DAMAGE[name]
    path = tmp_path / "t.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(trace.TraceError, match=message):
        trace.read(path)


def test_a_step_that_changes_what_does_not_stand_there_is_refused(recorded):
    document = json.loads(json.dumps(recorded["composed"][2]))
    action = document["steps"][0]["rows"][0]["actions"][0]
    action[2] = action[3]
    with pytest.raises(trace.TraceError, match="the trace is damaged"):
        list(trace.replayed(document))


def shown(document, steps):
    """The screen of a trace after some steps, and the pieces of its first row."""
    texts = document["texts"]
    screen = Screen(document, document["rows"], lambda token: texts.get(str(token), ""))
    for frame in trace.replayed(document):
        if frame.step <= steps:
            screen.advance(frame)
    return screen


def test_the_screen_shows_given_text_fresh_text_and_what_is_undecided(recorded):
    _, samples, document = recorded["composed"]
    fresh = {i for i, step in enumerate(samples[0].step) if step == 2}
    pieces = list(shown(document, 2).pieces(0))
    assert "".join(text for text, _ in pieces[:4]) == "the "
    assert len({style for _, style in pieces[:4]}) == 1
    new = {i for i, (_, style) in enumerate(pieces) if style.startswith("bold")}
    assert new == fresh
    for place, step in enumerate(samples[0].step):
        assert (pieces[place][0] in "░▒▓█") == (step > 2)
    finished = "".join(text for text, _ in shown(document, 99).pieces(0))
    assert not set(finished) & set("░▒▓█")


def test_lines_break_at_the_cell_and_line_ends_stay_visible():
    pieces = [("ab\n", "x"), ("cdefg", "y"), ("漢字", "z"), ("\t", "")]
    assert [line.plain for line in folded(iter(pieces), 5)] == ["ab↵", "cdef", "g漢", "字·"]
