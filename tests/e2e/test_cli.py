"""The command line: one JSON document, or one line of error and exit code 2."""

import json
import math

import pytest
import tiny
import torch

from unison.cli.main import main
from unison.decode import STRATEGIES
from unison.decode.presets import PRESETS
from unison.recipes import run as recipe_run

SMALL = [
    "--model.hidden", "16", "--model.depth", "1", "--model.max-length", "16",
    "--model.cond-dim", "8", "--data.tokenizer.kind", "char", "--data.split", "blank",
    "--batch-size", "4", "--device", "cpu",
]  # fmt: skip
ESTIMATE = {"value", "stderr", "n", "unit"}
SAMPLE = {
    "text", "tokens", "nfe", "step", "confidence", "given", "tokens_per_forward", "prompt",
    "lossless",
}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return tiny.corpus(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def runs(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for family in ("duo", "mdlm"):
        tiny.run(tiny.config(family, steps=2), text, folder / family)
    return folder


def said(capsys, *arguments):
    """Run a verb; return the exit code, the JSON document if asked for, and stderr."""
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    if "--json" in arguments and code == 0:
        return code, json.loads(out, parse_constant=pytest.fail), err
    return code, out, err


def refused(capsys, *arguments):
    """Run a verb that must fail the documented way; return its line."""
    code, out, err = said(capsys, *arguments)
    assert code == 2, (code, out, err)
    assert out == ""
    assert err.startswith("unison: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err.strip()


def test_training_and_distilling_print_one_json_document_with_the_documented_keys(
    text, tmp_path, capsys
):
    base, student = tmp_path / "base", tmp_path / "student"
    code, made, err = said(
        capsys, "train", "--text", text, "--out", base, "--steps", 2, *SMALL, "--json"
    )
    assert code == 0
    assert made.keys() == {"run", "steps", "skipped", "held_out", "bits_per_byte"}
    assert (made["run"], made["steps"], made["skipped"]) == (str(base), 2, 0)
    assert made["bits_per_byte"].keys() == ESTIMATE
    assert made["bits_per_byte"]["unit"] == "bits/byte"
    # Plain lines where stderr is no terminal: no bar, no control characters.
    assert err.startswith("train 2/2  loss ")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    code, made, err = said(
        capsys, "distil", base, "--out", student, "--rounds", 2, "--round-steps", 1, "--device",
        "cpu", "--json",
    )  # fmt: skip
    assert code == 0
    assert made.keys() == {"run", "steps", "skipped", "held_out", "bits_per_byte"}
    assert made["steps"] == 2
    assert sorted(p.name for p in student.iterdir() if p.suffix == ".json") == [
        "config.json", "generation_config.json", "run.json", "tokenizer.json",
    ]  # fmt: skip


def test_without_json_training_says_what_to_do_next(text, tmp_path, capsys):
    out = tmp_path / "out"
    code, words, _ = said(capsys, "train", "--text", text, "--out", out, "--steps", 1, *SMALL)
    assert code == 0
    assert "bits/byte" in words
    assert words.endswith(f"next: unison generate {out}\n")


@pytest.mark.parametrize("family", ["duo", "mdlm"])
def test_row_i_of_generate_is_the_same_whatever_the_number_of_texts(family, runs, capsys):
    def ask(*arguments):
        code, found, _ = said(capsys, "generate", runs / family, *arguments, "--json")
        assert code == 0
        assert found.keys() == {"samples"}
        assert all(sample.keys() == SAMPLE for sample in found["samples"])
        return found["samples"]

    five = ask("--num", 5, "--seed", 3, "--steps", 4, "--prompt", "the ")
    assert len(five) == 5
    for num, size in ((1, 64), (2, 1), (5, 2)):
        part = ask(
            "--num", num, "--batch-size", size, "--seed", 3, "--steps", 4, "--prompt", "the "
        )
        assert part == five[:num]
    assert ask("--num", 5, "--seed", 4, "--steps", 4, "--prompt", "the ") != five
    assert all(sample["text"].startswith("the ") for sample in five)


def test_prompt_suffix_and_canvas_are_in_the_text(runs, capsys):
    _, found, _ = said(
        capsys,
        "generate",
        runs / "mdlm",
        "--prompt",
        "quick",
        "--suffix=lazy",
        "--num",
        4,
        "--json",
    )
    assert all(s["text"].startswith("quick") for s in found["samples"])
    assert all(s["text"].endswith("lazy") for s in found["samples"])
    _, found, _ = said(
        capsys, "generate", runs / "duo", "--canvas", '["fox", 4, "dog", 2]', "--json"
    )
    [sample] = found["samples"]
    assert len(sample["tokens"]) == 12
    assert sample["text"].startswith("fox")
    assert "dog" in sample["text"]


def test_a_strategy_chosen_by_name_brings_its_own_flags_and_keeps_the_models_steps(runs, capsys):
    _, plain, _ = said(capsys, "generate", runs / "duo", "--json")
    _, named, _ = said(capsys, "generate", runs / "duo", "--strategy", "ancestral", "--json")
    assert plain == named
    assert plain["samples"][0]["nfe"] == 64
    _, psi, _ = said(
        capsys, "generate", runs / "duo", "--strategy=psi", "--steps", 5, "--temperature", 0.5,
        "--json",
    )  # fmt: skip
    assert psi["samples"][0]["nfe"] == 5


def test_generate_without_json_prints_the_texts(runs, capsys):
    _, found, _ = said(capsys, "generate", runs / "duo", "--num", 2, "--json")
    code, words, _ = said(capsys, "generate", runs / "duo", "--num", 2)
    assert code == 0
    texts = [sample["text"] for sample in found["samples"]]
    assert words == "".join(f"--- {i} (64 evaluations)\n{text}\n" for i, text in enumerate(texts))


def test_evaluate_prints_estimates_with_units(text, runs, capsys):
    code, found, _ = said(capsys, "evaluate", runs / "duo", "--text", text, "--passes", 1, "--json")
    assert code == 0
    assert found.keys() == {"bits_per_byte", "bits_per_char", "nats_per_token", "perplexity"}
    assert all(estimate.keys() == ESTIMATE for estimate in found.values())
    assert found["perplexity"]["value"] == pytest.approx(math.exp(found["nats_per_token"]["value"]))
    _, other, _ = said(
        capsys, "evaluate", runs / "duo", "--text", text, "--passes", 1, "--seed", 1, "--json"
    )
    assert other != found


def test_a_score_of_one_block_has_an_unknown_error_in_valid_json(runs, tmp_path, capsys):
    short = tmp_path / "short.txt"
    short.write_text("the fox")
    code, found, _ = said(
        capsys, "evaluate", runs / "duo", "--text", short, "--split", "file", "--json"
    )
    assert code == 0
    assert found["bits_per_byte"]["n"] == 1
    assert found["bits_per_byte"]["stderr"] is None


def test_evaluate_scores_samples_together_with_their_diversity(text, runs, capsys):
    code, found, _ = said(
        capsys, "evaluate", runs / "duo", "--text", text, "--passes", 1, "--samples", 3,
        "--steps", 2, "--json",
    )  # fmt: skip
    assert code == 0
    assert {"gen_ppl", "entropy"} <= found.keys()
    assert all(estimate.keys() == ESTIMATE for estimate in found.values())


def test_doctor_describes_the_machine_and_the_model(runs, capsys):
    code, found, _ = said(capsys, "doctor", "--json")
    assert code == 0
    assert found.keys() == {"environment"}
    assert found["environment"]["torch"] == torch.__version__
    code, found, _ = said(capsys, "doctor", runs / "mdlm", "--device", "cpu", "--json")
    told = found["model"]
    assert (told["format"], told["process"], told["attention"]) == (
        "unison", "absorbing", "bidirectional",
    )  # fmt: skip
    assert told["belief_sums_to_one"] is True
    assert told["batch_invariant"] in (True, False)
    assert (told["shifted_outputs"], told["reads_time"], told["block_length"]) == (
        False, False, None,
    )  # fmt: skip
    assert told["mask_id"] == told["vocabulary"]["outputs"]
    assert told["end_tokens"] == {str(told["mask_id"] - 1): "<|eos|>"}
    assert told["defaults"]["strategy"] == "ancestral"
    fits = found["fits"]
    assert {"llada", "wino", "p2"} <= {*fits["presets"]}
    assert {"none", "prefix", "dual"} <= {*fits["caches"]}
    assert "needs uniform" in fits["refused"]["diffusion-gemma"]
    assert "only look back" in fits["refused"]["exact"]
    assert {*fits["presets"], *fits["refused"]} >= {*PRESETS}


def test_doctor_tells_people_the_same_in_lines_that_fit(runs, capsys):
    code, words, _ = said(capsys, "doctor", runs / "duo", "--device", "cpu")
    assert code == 0
    assert "  process              uniform\n" in words
    assert "  mask id              none\n" in words
    assert "  reads time           yes\n" in words
    assert "p2: P2 cannot revise text under the uniform process" in words
    assert max(map(len, words.splitlines())) <= 100


@pytest.mark.parametrize(
    "verb", ["train", "distil", "generate", "replay", "evaluate", "demo", "doctor"]
)
def test_every_verb_has_help(verb, capsys):
    code, words, _ = said(capsys, verb, "--help")
    assert code == 0
    assert f"usage: unison {verb}" in words
    assert verb in said(capsys, "--help")[1]


OPTIONS = {
    "verb": (["trian"], "unknown verb 'trian'; did you mean 'train'?"),
    "recipe": (["train", "tiny_gpu"], "unknown recipe 'tiny_gpu'; did you mean 'tiny_cpu'?"),
    "recipe to distil": (["distil", "{duo}", "--recipe", "dmeo"], "did you mean 'demo'?"),
    "objective": (["train", "--objective", "due"], "unknown objective 'due'; did you mean 'duo'?"),
    "field": (
        ["train", "--out", "{new}", "--optimzer.lr", "1"],
        "'--optimzer.lr'; did you mean '--optimizer.lr'?",
    ),
    "flag": (["generate", "{duo}", "--temprature=1"], "did you mean '--temperature'?"),
    "strategy": (
        ["generate", "{duo}", "--strategy", "ancestrl"],
        "unknown strategy 'ancestrl'; did you mean 'ancestral'?",
    ),
    "flag of another strategy": (
        ["generate", "{duo}", "--strategy", "ancestral", "--kappa", "1"],
        "unknown option '--kappa'",
    ),
    "not a number": (["generate", "{duo}", "--steps", "abc"], "Error parsing --steps: "),
    "no value": (["generate", "{duo}", "--strategy"], "--strategy needs a value"),
    "no value for a field": (["generate", "{duo}", "--steps"], "Missing value for argument"),
    "not a choice": (["train", "--optimizer.name", "sgd"], "Expected one of ('adamw', 'muon')"),
    "not a number of training": (
        ["train", "--out", "{new}", "--steps", "abc"],
        "Error parsing --steps: invalid literal for int() with base 10: 'abc'; see unison train",
    ),
    "no out": (["train", "--text", "{text}"], "Missing from unison train: --out"),
    "no base": (["distil", "--out", "{new}"], "name the run to distil first"),
    "steps": (["generate", "{duo}", "--steps", "0"], "steps must be at least 1, got 0"),
    "steps of a strategy": (
        ["generate", "{duo}", "--strategy", "ancestral", "--steps", "0"],
        "steps must be at least 1, got 0",
    ),
    "steps of training": (
        ["train", "--text", "{text}", "--out", "{new}", "--steps", "0"],
        "steps must be at least 1, got 0",
    ),
    "temperature": (["generate", "{duo}", "--temperature", "-1"], "temperature must be at least 0"),
    "top_p": (["generate", "{duo}", "--top-p", "0"], "top_p must be in (0, 1]"),
    "top_k": (["generate", "{duo}", "--top-k", "0"], "top_k must be at least 1"),
    "num": (["generate", "{duo}", "--num", "0"], "num must be at least 1"),
    "prompt": (
        ["generate", "{duo}", "--prompt", "the quick brown fox jumps"],
        "prompt and suffix take 25 tokens, more than the canvas of 16",
    ),
    "length": (["generate", "{duo}", "--length", "17"], "length must be in [1, 16]"),
    "canvas": (["generate", "{duo}", "--canvas", "[1"], "--canvas is not valid JSON"),
    "canvas of lists": (["generate", "{duo}", "--canvas", "[[1]]"], "--canvas must be a list of"),
    "canvas too long": (["generate", "{duo}", "--canvas", "[99]"], "the canvas has 99 tokens"),
    "canvas and prompt": (
        ["generate", "{duo}", "--canvas", "[4]", "--prompt", "a"],
        "parts already say the whole canvas",
    ),
    "misfit": (["generate", "{duo}", "--strategy", "remdm"], "cannot undo the uniform process"),
    "no model": (["generate", "{new}"], "is not a directory"),
    "passes": (["evaluate", "{duo}", "--text", "{text}", "--passes", "0"], "passes must be at"),
    "samples": (["evaluate", "{duo}", "--text", "{text}", "--samples", "-1"], "samples must be at"),
    "judge": (
        ["evaluate", "{duo}", "--text", "{text}", "--samples", "1", "--judge", "nobody"],
        "nobody",
    ),
    "device": (["generate", "{duo}", "--device", "tpu9"], "unknown device 'tpu9'; use auto, cpu"),
    "seed": (["train", "--text", "{text}", "--out", "{new}", "--seed", "-1"], "seed must be in"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(name, text, runs, tmp_path, capsys):
    arguments, message = OPTIONS[name]
    places = {"duo": runs / "duo", "text": text, "new": tmp_path / "new"}
    assert message in refused(capsys, *(argument.format(**places) for argument in arguments))
    assert not (tmp_path / "new").exists(), "something was written before the refusal"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
@pytest.mark.parametrize("verb", ["train", "generate", "evaluate", "doctor"])
def test_an_absent_device_is_named(verb, text, runs, tmp_path, capsys):
    arguments = {
        "train": ["--text", text, "--out", tmp_path / "new"],
        "evaluate": [runs / "duo", "--text", text],
    }.get(verb, [runs / "duo"])
    line = refused(capsys, verb, *arguments, "--device", "cuda")
    assert "device 'cuda' is not available here; 0 CUDA devices were found" in line
    assert not (tmp_path / "new").exists()


CORPORA = {
    "missing": (None, "there is no corpus"),
    "empty": (b"", "is empty"),
    "blank": (b" \n\n ", "is empty"),
    "tiny": (b"a few words", "1 whole block(s) of 16; at least 2 are needed"),
    "binary": (b"abc\0\1\2" * 50, "is not text: there is a NUL byte at offset 3"),
    "latin-1": ("déjà vu ".encode("latin-1") * 50, "is not UTF-8: byte 0xe9 at offset 1"),
}


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_a_corpus_that_cannot_be_used_is_one_line_and_nothing_is_written(
    name, verb, runs, tmp_path, capsys
):
    content, message = CORPORA[name]
    path, out = tmp_path / "corpus.txt", tmp_path / "out"
    if content is not None:
        path.write_bytes(content)
    if verb == "train":
        split = ["--data.split", "auto"]
        line = refused(capsys, "train", "--text", path, "--out", out, *SMALL, *split)
        assert message in line
    elif name != "tiny":  # enough to be scored
        assert message in refused(capsys, "evaluate", runs / "duo", "--text", path)
    assert not out.exists()


def test_a_folder_in_use_is_never_overwritten(text, runs, tmp_path, capsys):
    out = tmp_path / "out"
    tiny.run(tiny.config(steps=2), text, out)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine").write_text("precious")
    (tmp_path / "file").write_text("precious")
    before = tiny.left_behind(tmp_path)
    train = ["train", "--text", text, *SMALL, "--out"]
    assert "is not empty; use --resume" in refused(capsys, *train, out)
    assert "was started with other settings" in refused(capsys, *train, out, "--resume")
    assert "is not empty" in refused(capsys, *train, tmp_path / "notes")
    assert "so it is not a run" in refused(capsys, *train, tmp_path / "notes", "--resume")
    assert "is a file" in refused(capsys, *train, tmp_path / "file")
    distil = ["distil", runs / "duo", "--device", "cpu", "--out", out]
    assert "is not empty" in refused(capsys, *distil)
    assert "holds a train run; it cannot resume as distil" in refused(capsys, *distil, "--resume")
    assert tiny.left_behind(tmp_path) == before


def test_generate_without_a_model_takes_the_newest_finished_run_and_says_so(
    text, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert recipe_run.unnamed() == "stories"
    tiny.run(tiny.config(steps=1), text, tmp_path / "runs" / "mine")
    _, newest, _ = said(capsys, "generate", "--json")
    _, named, _ = said(capsys, "generate", "runs/mine", "--json")
    assert newest == named


def test_every_strategy_can_be_asked_for_on_the_command_line(runs, capsys):
    for name, kind in STRATEGIES.items():
        family = "duo" if "uniform" in kind.processes else "mdlm"
        if {"uniform", "absorbing"} & set(kind.processes):
            code, found, err = said(
                capsys, "generate", runs / family, "--strategy", name, "--num", 1, "--json"
            )
            assert code == 0, err
            assert len(found["samples"][0]["tokens"]) == 16
