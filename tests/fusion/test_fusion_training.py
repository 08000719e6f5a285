"""Fusers that learn: what only the sharer knows, runs that go on, files that know their models."""

import dataclasses
import json

import pytest
import tiny
import torch

import unison
from unison import checkpoints
from unison.cli.main import main
from unison.distil.fusion import FusionRun, Source, train_fusion
from unison.drafters.beside import BesideError
from unison.engine.reading import NetworkTarget, target_of
from unison.fusion import Annealing, Fuser, Fusing, Pair, lesson, load_fused, pair_of, save_fuser
from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.speculation.loop import Speculation, speculate
from unison.speculation.proof import asked
from unison.train import Optimizer

KEYS, VALUES = 48, 8
SEPARATOR, V = KEYS + VALUES, KEYS + VALUES + 1
SHAPE = TransformerConfig(
    vocab_size=V,
    num_states=V + 1,
    hidden=32,
    depth=2,
    heads=2,
    max_length=8,
    attention="causal",
    time="none",
)
SMALL = FusionRun(
    fusing=Fusing(width=16, inner=16, dropout=0.1),
    optimizer=Optimizer(lr=1e-2, warmup=1),
    steps=7,
    batch_size=4,
    micro_batch=2,
    length=12,
    prompt_tokens=6,
    holdout=0.2,
    split="blank",
    eval_every=3,
    eval_texts=4,
    save_every=2,
    log_every=1,
)


def asking(first: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """Return prompts of a token and two separators, and an answer to each."""
    between = torch.full_like(first, SEPARATOR)
    return torch.stack([first, between, between, answer], 1)


def knowing(shape: TransformerConfig, texts: torch.Tensor, steps: int) -> Transformer:
    """Return a network that has learnt the answers."""
    network = Transformer(shape)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    inputs = torch.cat([torch.full_like(texts[:, :1], V), texts[:, :-1]], 1)
    for _ in range(steps):
        said = network(inputs, torch.zeros(len(inputs)))[:, 3]
        torch.nn.functional.cross_entropy(said, texts[:, 3]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return network.eval().requires_grad_(False)


def test_a_receiver_answers_what_only_the_sharer_knows_of_keys_the_fuser_never_saw() -> None:
    torch.manual_seed(0)
    keys, values = torch.arange(KEYS), torch.arange(KEYS, V - 1)
    answers = KEYS + (rng.uniform(Key(torch.tensor([3])), 0, KEYS)[0] * VALUES).long()
    sharer = knowing(dataclasses.replace(SHAPE, depth=3, kv_heads=1), asking(keys, answers), 100)
    receiver = knowing(SHAPE, asking(values, values), 70)  # repeats; knows nothing of keys
    pair = Pair(NetworkTarget(receiver, V), NetworkTarget(sharer, V))
    fuser = Fuser(Fusing(64, 64, 1, 0.0), receiver.config, sharer.config)
    unseen = keys % 4 == 0
    train, held = (asking(keys[at], answers[at]) for at in (~unseen, unseen))
    optimizer = torch.optim.AdamW(fuser.parameters(), lr=2e-3)
    annealing = Annealing(steps=200)

    def nats(fuser: Fuser | None, texts: torch.Tensor, chances=None) -> torch.Tensor:
        told = lesson(fuser, pair, texts, torch.full_like(texts[:, 0], 3), None, chances)
        return told.total / told.count

    for step in range(100):
        u = rng.uniform(Key(torch.tensor([5]), step), 0, 4)[0].view(2, 2)
        nats(fuser, train, fuser.chances(u, annealing.temperature(step))).backward()
        optimizer.step()
        optimizer.zero_grad()
    alone, fused = float(nats(None, held)), float(nats(fuser.eval(), held).detach())
    assert alone > 1.8  # of 2.08 nats for eight answers nobody knows
    assert fused < 0.6  # 2.14 and 0.12 when this was written
    assert bool((fuser.gates > 0).all())


@pytest.fixture(scope="module")
def models():
    return tiny.model("ar", length=32), tiny.model("ar", length=32, depth=2, hidden=32)


def test_a_run_that_is_cut_and_resumed_ends_bit_for_bit_as_one_that_was_not(
    models, tmp_path
) -> None:
    source = Source([tiny.corpus(tmp_path)])
    train_fusion(SMALL, *models, source, tmp_path / "whole")
    for cut in (1, 3, 7):
        with pytest.raises(tiny.Cut):
            train_fusion(
                SMALL,
                *models,
                source,
                tmp_path / "pieces",
                resume=True,
                observe=[tiny.cut_after(cut)],
            )
    assert train_fusion(SMALL, *models, source, tmp_path / "pieces", resume=True).steps == 7
    tiny.assert_same(tmp_path / "whole", tmp_path / "pieces")


def test_micro_batches_learn_from_the_same_gates(models, tmp_path) -> None:
    source = Source([tiny.corpus(tmp_path)])
    fusing = Fusing(width=16, inner=16, dropout=0.0)
    gates = []
    for micro in (None, 1):
        config = dataclasses.replace(SMALL, fusing=fusing, micro_batch=micro, steps=3)
        gates.append(train_fusion(config, *models, source, tmp_path / str(micro)).fuser.gates)
    torch.testing.assert_close(*gates, rtol=1e-3, atol=1e-5)


def test_a_fuser_is_read_back_for_its_two_models_and_refused_for_others(models, tmp_path) -> None:
    receiver, sharer = models
    done = train_fusion(SMALL, *models, Source([tiny.corpus(tmp_path)]), tmp_path / "run")
    tiny.randomise(done.fuser, 3.0)
    with torch.no_grad():
        done.fuser.gates.fill_(1.0)
    save_fuser(tmp_path / "open", done.fuser, receiver, sharer, "longest")
    target = load_fused(tmp_path / "open", receiver, sharer)
    for name, w in done.fuser.state_dict().items():
        assert torch.equal(w, target.fuser.state_dict()[name])
    ask = asked(target, [3, 4, 5, 6, 3], 10)
    fused = speculate(Speculation(), target, ask)
    assert fused.tokens != speculate(Speculation(), target_of(receiver), ask).tokens
    with pytest.raises(BesideError, match="another receiver, with hidden=16, not 32"):
        load_fused(tmp_path / "run", sharer, receiver)
    other = tiny.model("ar", length=32, strength=2.0)
    with pytest.raises(BesideError, match="another receiver, with other weights"):
        load_fused(tmp_path / "run", other, sharer)
    with pytest.raises(BesideError, match="another sharer"):
        load_fused(tmp_path / "run", receiver, receiver)


def test_pairs_teach_answers_alone_and_a_shut_fuser_changes_no_loss(models, tmp_path) -> None:
    path = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"number {i}", "completion": f"fox {i}"} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, lines)))
    config = dataclasses.replace(SMALL, steps=1, length=24, optimizer=Optimizer(lr=1e-9, warmup=1))
    done = train_fusion(config, *models, Source([str(path)], pairs=True), tmp_path / "run")
    assert done.alone.unit == "nats/token"
    pair = pair_of(*models)
    words = models[0].tokenizer
    total, count = 0.0, 0
    held = json.loads((tmp_path / "run" / "metrics.json").read_text())["alone"]
    for line in lines:
        prompt, answer = words.encode(line["prompt"]), words.encode(line["completion"])
        tokens = torch.tensor([[*prompt, *answer, words.eos_id]])
        nats = lesson(None, pair, tokens, torch.tensor([len(prompt)]))
        total, count = total + float(nats.total), count + int(nats.count)
    assert count == sum(len(words.encode(line["completion"])) + 1 for line in lines)
    assert held["value"] == pytest.approx(total / count, rel=0.2)


def test_the_verb_trains_a_fuser_and_refuses_what_it_cannot(models, tmp_path, capsys) -> None:
    text = tiny.corpus(tmp_path)
    for name, model in zip(("receiver", "sharer"), models, strict=True):
        checkpoints.save(model, tmp_path / name)
    receiver, sharer = str(tmp_path / "receiver"), str(tmp_path / "sharer")
    flags = [
        "--sharer", sharer, "--out", str(tmp_path / "out"), "--device", "cpu", "--json",
        "--steps", "2", "--batch-size", "2", "--micro-batch", "2", "--length", "8",
        "--prompt-tokens", "4", "--fusing.width", "8", "--fusing.inner", "8",
        "--split", "blank", "--holdout", "0.2",
    ]  # fmt: skip
    assert main(["train-fusion", receiver, *flags, "--text", text]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == 2
    assert told["alone"]["value"] > 0
    read = [unison.load(path) for path in (receiver, sharer)]
    assert load_fused(tmp_path / "out", *read).fuser.fusing.width == 8
    for arguments, reason in (
        (flags, "name the receiver first"),
        ([receiver, *flags], "give either --text or --pairs"),
        ([receiver, *flags, "--text", text, "--pairs", text], "give either --text or --pairs"),
        ([receiver, *flags, "--text", text], "is not empty"),
        ([receiver, *flags, "--text", text, "--prompt-tokens", "8"], "prompt_tokens must be in"),
        ([receiver, *flags, "--text", text, "--length", "32"], "length=32 does not fit"),
    ):
        assert main(["train-fusion", *arguments]) == 2
        assert reason in capsys.readouterr().err
