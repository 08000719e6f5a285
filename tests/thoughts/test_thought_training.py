"""Learning to think: what it brings, that runs go on where they were cut, and where they end."""

import dataclasses
import json

import pytest
import tiny
import torch

import unison
from unison import checkpoints
from unison.cli.main import main
from unison.distil.thoughts import ThoughtRun, train_thoughts
from unison.drafters.beside import BesideError
from unison.engine.reading import target_of
from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.speculation.loop import Speculation, speculate
from unison.speculation.proof import asked
from unison.thoughts import Mind, QuietStar, Schooling, Thinking, load_mind, save_mind, school
from unison.train import Optimizer

SMALL = ThoughtRun(
    thinking=Thinking(tokens=2, scale=10.0),
    schooling=Schooling(talk=2, policy=1.0),
    mark="o",
    optimizer=Optimizer(lr=1e-2, warmup=2),
    steps=7,
    batch_size=4,
    length=10,
    holdout=0.2,
    split="blank",
    eval_every=3,
    eval_texts=4,
    save_every=2,
    log_every=1,
)


def delayed_copies(step: int, rows: int, delay: int = 4) -> torch.Tensor:
    """Return texts of six letters that repeat after some places, begin tokens first."""
    text = (rng.uniform(Key(rng.rows(1, 0, rows), step), 0, 12)[:, :12] * 6).long()
    for place in range(delay, 12):
        text[:, place] = text[:, place - delay]
    return torch.cat([torch.full((rows, 1), 6), text], 1)


def test_training_on_delayed_copies_makes_thoughts_save_what_they_did_not_save_before() -> None:
    torch.manual_seed(0)
    shape = TransformerConfig(
        vocab_size=6,
        num_states=7,
        hidden=32,
        depth=1,
        heads=2,
        max_length=32,
        attention="causal",
        time="none",
        norm="rms",
    )
    network = Transformer(shape)
    mind = Mind(Thinking(tokens=2, scale=10.0), network)
    schooling = Schooling(talk=2, policy=1.0, temperature=1.0, clamp=False)
    weights = [*network.parameters(), *mind.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-3)

    @torch.no_grad()
    def saved() -> float:
        key = Key(rng.rows(3, 0, 32))
        return float(school(network, mind, delayed_copies(1000, 32), key, schooling).reward)

    assert saved() == 0.0
    for step in range(50):
        key = Key(rng.rows(2, 0, 16), step)
        school(network, mind, delayed_copies(step, 16), key, schooling).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert saved() > 0.1  # 0.25 nats when this was written


@pytest.mark.parametrize("whole", [True, False])
def test_a_run_that_is_cut_and_resumed_ends_bit_for_bit_as_one_that_was_not(
    whole, tmp_path
) -> None:
    config = dataclasses.replace(SMALL, whole=whole)
    model, text = tiny.model("ar", length=16), tiny.corpus(tmp_path)
    original = {name: w.clone() for name, w in target_of(model).network.state_dict().items()}
    train_thoughts(config, model, [text], tmp_path / "whole")
    for cut in (1, 3, 7):
        with pytest.raises(tiny.Cut):
            train_thoughts(
                config,
                model,
                [text],
                tmp_path / "pieces",
                resume=True,
                observe=[tiny.cut_after(cut)],
            )
    done = train_thoughts(config, model, [text], tmp_path / "pieces", resume=True)
    assert done.steps == 7
    tiny.assert_same(tmp_path / "whole", tmp_path / "pieces")
    for name, w in target_of(model).network.state_dict().items():
        assert torch.equal(w, original[name])
    moved = any(
        not torch.equal(w, original[name])
        for name, w in target_of(done.model).network.state_dict().items()
    )
    assert moved == whole


def test_a_trained_model_is_read_back_with_its_thoughts_and_decodes_with_them(tmp_path) -> None:
    model, text = tiny.model("ar", length=64), tiny.corpus(tmp_path)
    done = train_thoughts(SMALL, model, [text], tmp_path / "run")
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told["before"]["reward"]["value"] == pytest.approx(0, abs=1e-6)
    assert told["after"]["base"]["value"] < told["before"]["base"]["value"]
    read = unison.load(tmp_path / "run")
    mind = load_mind(tmp_path / "run", read)
    assert mind.thinking == SMALL.thinking
    for name, w in done.mind.state_dict().items():
        assert torch.equal(w, mind.state_dict()[name])
    target = target_of(read)
    ask = asked(target, [3, 4, 5], 8)
    thought = speculate(Speculation(policy=QuietStar(mind)), target, ask)
    again = speculate(Speculation(policy=QuietStar(done.mind)), target_of(done.model), ask)
    assert thought.tokens == again.tokens
    with pytest.raises(BesideError, match="beside another model, with other weights"):
        load_mind(tmp_path / "run", model)


def test_thoughts_that_cannot_be_read_are_refused(tmp_path) -> None:
    model = tiny.model("ar")
    network = target_of(model).network
    save_mind(tmp_path / "mind", Mind(Thinking(tokens=1), network), model)
    assert load_mind(tmp_path / "mind", model).thinking.tokens == 1
    with pytest.raises(BesideError, match=r"holds no config\.json"):
        load_mind(tmp_path / "nowhere", model)
    other = tiny.model("ar", hidden=32)
    with pytest.raises(BesideError, match="hidden=16, not 32"):
        load_mind(tmp_path / "mind", other)
    path = tmp_path / "mind" / "config.json"
    content = json.loads(path.read_text())
    for change, reason in (
        ({"format": "unison-drafter"}, "a unison-drafter, not a unison-thoughts"),
        ({"format_version": 9}, "format version 9"),
        ({"settings": {"speed": 3}}, "do not fit"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(BesideError, match=reason):
            load_mind(tmp_path / "mind", model)
    path.write_text("{")
    with pytest.raises(BesideError, match="damaged"):
        load_mind(tmp_path / "mind", model)
    path.write_text(json.dumps(content))
    (tmp_path / "mind" / "model.safetensors").write_bytes(b"no")
    with pytest.raises(BesideError, match="cannot be read"):
        load_mind(tmp_path / "mind", model)


def test_the_verb_trains_thoughts_and_refuses_what_it_cannot(tmp_path, capsys) -> None:
    text = tiny.corpus(tmp_path)
    base = tmp_path / "base"
    checkpoints.save(tiny.model("ar", length=16), base)
    flags = [
        "--text", text, "--out", str(tmp_path / "out"), "--device", "cpu", "--json",
        "--steps", "2", "--batch-size", "2", "--length", "8", "--thinking.tokens", "1",
        "--schooling.talk", "2", "--split", "blank", "--holdout", "0.2", "--mark", "a",
    ]  # fmt: skip
    assert main(["train-thoughts", str(base), *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == 2
    assert told["after"]["reward"]["unit"] == "nats/thought"
    assert load_mind(tmp_path / "out", unison.load(tmp_path / "out")).thinking.tokens == 1
    for arguments, reason in (
        (flags, "name the model first"),
        ([str(base), *flags], "is not empty"),
        ([str(base), *flags, "--length", "16"], "length=16 does not fit"),
    ):
        assert main(["train-thoughts", *arguments]) == 2
        assert reason in capsys.readouterr().err
