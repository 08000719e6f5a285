import json
from dataclasses import replace

import pytest
import tiny
import torch

import unison
from unison import constrain
from unison.cli.main import main
from unison.generation.spelling import speculation
from unison.speculation import Speculation
from unison.speculation.builders.chain import Chain
from unison.speculation.policies.plain import Plain

PROMPTS = ["Paragraph 1: the", "the quick", ""]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = tiny.model("ar", length=48, strength=3.0)
    return replace(made, eos_ids=(made.tokenizer.encode(".")[0],))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("ar")
    unison.save(model, path)
    return str(path)


def texts(model, **settings):
    samples = unison.generate(model, PROMPTS, num=2, new_tokens=12, seed=3, **settings)
    return [(sample.text, sample.prompt) for sample in samples]


def test_speculation_writes_what_plain_decoding_writes_at_any_temperature(model):
    for temperature in (0.0, 0.7, 1.0):
        plain = texts(model, temperature=temperature)
        for drafter in ("lookup", "suffix", "none"):
            how = speculation(model, drafter)
            assert texts(model, strategy=how, temperature=temperature) == plain


def test_a_smaller_model_drafts_from_its_folder(model, folder):
    how = speculation(model, folder)
    [sample] = unison.generate(model, "the", new_tokens=20, strategy=how, temperature=0.0)
    [plain] = unison.generate(model, "the", new_tokens=20, temperature=0.0)
    assert sample.text == plain.text
    assert sample.nfe < plain.nfe
    assert sample.step[:3] == [0, 0, 0]
    assert max(sample.step) <= sample.nfe


def test_a_constraint_gates_every_token(model):
    digits = constrain.regex("[0-9]{3} [a-z]{2}")
    how = speculation(model, "lookup", scheduler="fixed:depth=3")
    for seed in range(5):
        [sample] = unison.generate(
            model,
            "the ",
            new_tokens=12,
            strategy=how,
            constraint=digits,
            seed=seed,
            temperature=1.0,
        )
        answer = sample.text.removeprefix("the ")
        assert answer[:3].isdigit()
        assert answer[3] == " "
        assert len(answer) == 6


def test_settings_of_other_strategies_are_refused(model):
    how = speculation(model, "lookup")
    for setting in ({"steps": 3}, {"block_length": 4}, {"cache": "exact"}, {"cfg": 1.0}):
        with pytest.raises(ValueError, match=f"speculation has no {next(iter(setting))}"):
            unison.generate(model, "the", strategy=how, **setting)
    with pytest.raises(ValueError, match="nothing may be given to the right"):
        unison.generate(model, "the", suffix=" end", new_tokens=4, strategy=how)
    with pytest.raises(ValueError, match="a target of speculation is autoregressive"):
        unison.generate(tiny.model("mdlm"), "the", strategy=Speculation(builder=Chain()))


def test_names_that_are_unknown_are_refused_with_the_nearest(model):
    with pytest.raises(ValueError, match="did you mean 'lookup'"):
        speculation(model, "lookpu")
    with pytest.raises(ValueError, match="unknown verifier 'blok'"):
        speculation(model, "lookup", verifier="blok")
    with pytest.raises(ValueError, match=r"unknown scheduler 'fixxed'.*fixed, .*pearl"):
        speculation(model, "lookup", scheduler="fixxed")
    with pytest.raises(ValueError, match="there is no setting 'longst'"):
        speculation(model, "lookup:longst=3")
    with pytest.raises(ValueError, match="at most longest"):
        speculation(model, "lookup:longest=1,shortest=3")


def test_temperature_reaches_the_policy_and_no_other_law(model):
    how = speculation(model, "lookup")
    assert how.policy == Plain()
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        unison.generate(model, "the", strategy=how, temperature=-1.0)


def told(capsys, *arguments: str):
    assert main(["generate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["samples"]


def test_the_command_line_speculates(folder, capsys):
    common = (folder, "--prompt", "the quick", "--new-tokens", "20", "--seed", "4")
    [plain] = told(capsys, *common)
    [drafted] = told(capsys, *common, "--drafter", "suffix", "--scheduler", "fixed:depth=4")
    assert drafted["text"] == plain["text"]
    assert main(["generate", *common, "--drafter", "lookup", "--strategy", "composed"]) == 2
    assert "two ways to write" in capsys.readouterr().err
    assert main(["generate", *common, "--drafter", "lookup", "--show"]) == 2
    assert main(["generate", *common, "--fusion", "somewhere"]) == 2
    assert "go together" in capsys.readouterr().err


def test_speculation_is_explained(folder, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture, price = tmp_path / "why.png", tmp_path / "cost.json"
    asked = ["explain-speculation", folder, "--prompt", "the quick", "--new-tokens", "30"]
    parts = ["--drafter", "lookup", "--scheduler", "fixed:depth=3", "--cost", str(price)]
    assert main([*asked, *parts, "--out", str(picture), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["lossless"]
    assert report["tokens_per_forward"] == report["tokens"] / report["rounds"]
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert price.exists()
    tested = sum(share["tested"] for share in report["by_depth"].values())
    assert tested == sum(share["tested"] for share in report["by_class"].values()) > 0
    assert main([*asked, *parts]) == 0
    said = capsys.readouterr().out
    assert "tokens per forward" in said
    assert "best" in said
    assert main(asked) == 2
    assert "name a drafter" in capsys.readouterr().err


def test_drafts_may_be_made_while_the_target_reads(model, folder):
    how = speculation(model, folder, scheduler="pearl:length=3")
    [sample] = unison.generate(model, "the", new_tokens=16, strategy=how, temperature=0.0)
    [plain] = unison.generate(model, "the", new_tokens=16, temperature=0.0)
    assert sample.text == plain.text
    with pytest.raises(ValueError, match="pearl drafts chains while the target reads"):
        speculation(model, folder, scheduler="pearl", verifier="block")


def test_other_models_and_laws_are_named_by_their_paths(model, folder):
    how = speculation(
        model, f"smaller:model={folder},temperature=0.5", builder="chain:sampled=true"
    )
    assert len(texts(model, strategy=how, temperature=1.0)) == 6
    contrast = speculation(model, None, policy=f"contrastive:amateur={folder},strong=1.5,weak=0.5")
    plain = unison.generate(model, "the", new_tokens=16, temperature=0.0)
    same = unison.generate(model, "the", new_tokens=16, strategy=contrast, temperature=0.0)
    assert same[0].text == plain[0].text  # an amateur that agrees changes nothing
    for policy, said in (("grammar", "comes from a constraint"), ("uscd", "a lame prompt")):
        with pytest.raises(ValueError, match=said):
            speculation(model, "lookup", policy=policy)
    with pytest.raises(ValueError, match="has no left-to-right mode"):
        speculation(tiny.model("mdlm"), "itself")


def test_a_trained_judge_verifies_and_the_result_says_that_it_is_lossy(
    model, folder, capsys, tmp_path
):
    text = tiny.corpus(tmp_path)
    out = str(tmp_path / "judge")
    short = ["--steps", "4", "--length", "16", "--batch-size", "2", "--eval-texts", "2"]
    trained = ["train-drafter", "judge", "--target", folder, "--text", text, "--out", out]
    assert main([*trained, *short, "--holdout", "0.2"]) == 0
    capsys.readouterr()
    parts = ["--drafter", folder, "--builder", "chain", "--verifier", out]
    asked = ["generate", folder, "--prompt", "the", "--new-tokens", "12", *parts, "--json"]
    assert main(asked) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["samples"][0]["lossless"] is False
    assert "lossy" in said.err
    how = speculation(model, "lookup")
    assert unison.generate(model, "the", new_tokens=4, strategy=how)[0].lossless is True
    assert unison.generate(model, "the", new_tokens=4)[0].lossless is None
