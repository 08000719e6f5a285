"""The commit filter's training: what hindsight sees, and that the fit learns what it saw."""

import pytest
import tiny
import torch
from oracle.decoding import random_tables

from unison.cli.main import main
from unison.decode import decode, start
from unison.decode.diffusion.composed import Composed
from unison.decode.select.learned import Learned, load_filter
from unison.generation import generate
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.train.filter import Fitting, Replay, fit, prompts_of, replay, replays

VOCAB, LENGTH = 3, 4


@pytest.fixture
def toy(as_denoiser, seed):
    process = Absorbing(VOCAB)
    denoise = as_denoiser(random_tables(process.num_states, VOCAB, LENGTH, seed))
    marks = torch.cartesian_prod(*[torch.arange(VOCAB + 1)] * LENGTH)
    given = marks != VOCAB
    given[-1, 0] = True  # a row whose last block is short
    key = Key(rng.rows(0, 0, len(marks)))
    return process, denoise, start(process, torch.where(given, marks, 0), given, key), key


def by_hand(process, denoise, canvas, block_length):
    """The same replay, row by row and position by position."""
    seen = []
    slow = Composed(block_length=block_length)
    for i in range(len(canvas.tokens)):
        row = canvas._replace(tokens=canvas.tokens[i : i + 1], given=canvas.given[i : i + 1])
        target = decode(slow, process, denoise, row, Key(torch.zeros(1).long())).tokens[0].tolist()
        tokens, given = row.tokens[0].tolist(), row.given[0].tolist()
        answer = given.index(False) if False in given else LENGTH
        for first in range(answer, LENGTH, block_length):
            places = [p for p in range(first, min(first + block_length, LENGTH)) if not given[p]]
            while any(tokens[p] == process.mask_id for p in places):
                belief = denoise(torch.tensor([tokens]), torch.ones(1).double())[0].exp()
                best = belief.argmax(-1).tolist()
                if len(places) == block_length:
                    right = [best[p] == target[p] for p in places]
                    seen.append(([belief[p].max().item() for p in places], right, i))
                gained = [
                    p for p in places if tokens[p] == process.mask_id and best[p] == target[p]
                ]
                for p in gained or places:
                    tokens[p] = target[p]
        assert tokens == target
    return seen


@pytest.mark.parametrize("block_length", [1, 2, 3])
def test_hindsight_sees_what_a_plain_loop_sees(block_length, toy):
    process, denoise, canvas, _ = toy
    seen, _ = replay(process, denoise, canvas, block_length)
    found = sorted(
        (row, tuple(round(c, 5) for c in confidence), tuple(correct))
        for confidence, correct, row in zip(
            seen.confidence.tolist(), seen.correct.tolist(), seen.row.tolist(), strict=True
        )
    )
    wanted = sorted(
        (row, tuple(round(c, 5) for c in confidence), tuple(correct))
        for confidence, correct, row in by_hand(process, denoise, canvas, block_length)
    )
    assert found == wanted


def test_hindsight_never_takes_more_steps_than_one_token_at_a_time(toy):
    process, denoise, canvas, key = toy
    _, steps = replay(process, denoise, canvas, 2)
    slow = decode(Composed(block_length=2), process, denoise, canvas, key).nfe
    assert (steps <= slow).all()
    assert (steps < slow).any()


def separable(rows=1000, length=3):
    """Positions are right exactly where the confidence is above 0.6."""
    sees = torch.rand(rows, length, generator=torch.Generator().manual_seed(0))
    return Replay(sees, sees > 0.6, torch.arange(rows))


def test_the_fit_learns_a_rule_that_the_confidences_tell():
    found = fit(separable(), Fitting(epochs=3000, lr=1e-2), 0.5)
    assert found.loss < 0.1
    assert found.wrong < 0.05
    assert found.caught > 0.95
    assert found.observations == 900


def test_the_fit_is_a_function_of_its_seed():
    first, again, other = (
        fit(separable(), Fitting(epochs=5, seed=seed), 0.5) for seed in (0, 0, 1)
    )
    assert first.loss == again.loss != other.loss


def test_a_filter_for_blocks_of_32_has_the_published_number_of_weights():
    sees = torch.rand(10, 32, generator=torch.Generator().manual_seed(0))
    found = fit(Replay(sees, sees > 0.5, torch.arange(10)), Fitting(epochs=1), 0.5)
    assert sum(part.numel() for part in found.filter) == 2112


def test_unfit_settings_and_models_are_refused():
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        Fitting(epochs=0)
    with pytest.raises(ValueError, match="at least 2 prompts, got 1"):
        fit(separable()._replace(row=torch.zeros(1000).long()), Fitting(epochs=1), 0.5)
    with pytest.raises(ValueError, match="needs an absorbing model"):
        next(replays(tiny.model("duo"), ["the"], 4, 2))
    with pytest.raises(ValueError, match="at least one block of 8"):
        next(replays(tiny.model("mdlm"), ["the"], 4, 8))
    with pytest.raises(ValueError, match="prompt_tokens=99"):
        prompts_of(["short"], tiny.model("mdlm").tokenizer, 99)


def test_the_verb_writes_a_filter_that_decoding_reads(tmp_path, capsys):
    from unison.checkpoints import save  # the model folder a user would name

    save(tiny.model("mdlm"), tmp_path / "model")
    text, out = tiny.corpus(tmp_path), tmp_path / "filter.safetensors"
    code = main(
        ["train-filter", str(tmp_path / "model"), "--text", text, "--out", str(out), "--split",
         "blank", "--prompt-tokens", "4", "--new-tokens", "8", "--block-length", "4", "--prompts",
         "6", "--epochs", "20", "--device", "cpu", "--json"]
    )  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said.err
    assert '"parameters": 40' in said.out
    assert load_filter(out).block_length == 4
    strategy = Composed(select=Learned(path=str(out), threshold=0.0), block_length=4)
    [sample] = generate(tiny.model("mdlm"), "the ", new_tokens=8, strategy=strategy)
    assert sample.nfe == 2, "a filter believed in everything writes a block at a time"
