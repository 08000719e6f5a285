"""One loop for every drafter: it learns, survives a kill, and leaves its target alone."""

import dataclasses
import json

import pytest
import tiny
import torch

from unison.data import TokenizerSpec
from unison.distil.drafters import DrafterRun, Room, train_drafter
from unison.drafters import KINDS
from unison.drafters.dflash import DFlash
from unison.drafters.eagle import Eagle, fspad
from unison.drafters.saving import load_trained
from unison.recipes.run import load
from unison.train import Data, Optimizer, TrainError

# Letters go round in a circle, in half of the lines each twice.
ALPHABET = "abcdefgh"
TEXT = "\n\n".join(
    "".join(ALPHABET[(start + i // (1 + start % 2)) % 8] for i in range(60))
    for start in range(8)
    for _ in range(6)
)
BLOCK = DFlash(layers=1, streams=2, block=4, anchors=8)
QUICK = DrafterRun(
    Eagle(noise=0.05),
    optimizer=Optimizer(lr=1e-2, warmup=3, clip=1.0),
    steps=6,
    batch_size=4,
    length=14,
    holdout=0.2,
    split="blank",
    eval_every=4,
    eval_texts=8,
    save_every=2,
    log_every=1,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("target")
    text = tiny.corpus(folder, TEXT + "".join(f"\n\n{ALPHABET[i:]}!{i}" for i in range(8)))
    config = tiny.config(
        "ar",
        steps=150,
        batch_size=16,
        ema=0.0,
        eval_every=150,
        save_every=150,
        optimizer=Optimizer(lr=1e-2, warmup=5),
        data=Data(TokenizerSpec("char"), split="blank"),
        model={"hidden": 32, "depth": 2, "max_length": 32},
    )
    tiny.run(config, text, folder / "ar")
    return folder / "ar", text


@pytest.fixture
def model(place):
    return load(place[0], "cpu")


def quick(kind=None, **changes):
    changes = changes if kind is None else {"kind": kind, **changes}
    return dataclasses.replace(QUICK, **changes)


@pytest.mark.parametrize("kind", [QUICK.kind, fspad(), BLOCK], ids=["eagle", "fspad", "dflash"])
def test_training_makes_a_drafter_agree_with_its_target_and_leaves_the_target_alone(
    kind, place, model, tmp_path
):
    before = {name: w.clone() for name, w in model.network.state_dict().items()}
    untrained = train_drafter(quick(kind, steps=1), model, [place[1]], Room(tmp_path / "one"))
    trained = train_drafter(
        quick(kind, steps=120, eval_every=120, save_every=120),
        model,
        [place[1]],
        Room(tmp_path / "many"),
    )
    assert untrained.agreement[0].value < 0.5
    assert trained.agreement[0].value > 0.55
    for depth in (0, 1):
        assert trained.agreement[depth].value > untrained.agreement[depth].value + 0.2
    assert trained.held_out.value < 0.6 * untrained.held_out.value
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, before[name])


def test_what_a_run_leaves_is_a_drafter_with_its_numbers(place, model, tmp_path):
    taught = train_drafter(quick(), model, [place[1]], Room(tmp_path / "out"))
    back = load_trained(tmp_path / "out", model)
    for name, weight in taught.trained.module.state_dict().items():
        assert torch.equal(back.module.state_dict()[name], weight)
    assert load_trained(tmp_path / "out" / "checkpoints" / "best", model).kind == QUICK.kind
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["steps"] == 6
    assert [depth["value"] for depth in metrics["agreement"]] == [
        pytest.approx(depth.value) for depth in taught.agreement
    ]
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    assert manifest["verb"] == "train-drafter"
    assert manifest["config"]["kind"]["kind"] == "Eagle"
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("by_target", [False, True], ids=["text", "continued"])
def test_a_run_that_was_cut_off_and_resumed_ends_byte_for_byte_the_same(
    by_target, place, model, tmp_path
):
    config = quick(continue_from_target=by_target, prompt_tokens=4, continuations=20)
    train_drafter(config, model, [place[1]], Room(tmp_path / "whole"))
    for step in (3, 5):
        with pytest.raises(tiny.Cut):
            train_drafter(
                config,
                model,
                [place[1]],
                Room(tmp_path / "cut", resume=True),
                observe=[tiny.cut_after(step)],
            )
    train_drafter(config, model, [place[1]], Room(tmp_path / "cut", resume=True))
    tiny.assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_run_may_end_after_some_minutes_and_go_on_later(place, model, tmp_path):
    room = Room(tmp_path / "out", minutes=1e-9)
    assert train_drafter(quick(), model, [place[1]], room).steps == 1
    for steps in (2, 3):
        again = room._replace(resume=True)
        assert train_drafter(quick(), model, [place[1]], again).steps == steps
    done = train_drafter(quick(), model, [place[1]], again._replace(minutes=None))
    train_drafter(quick(), model, [place[1]], Room(tmp_path / "whole"))
    whole = load_trained(tmp_path / "whole", model).module.state_dict()
    for name, weight in done.trained.module.state_dict().items():
        assert torch.equal(weight, whole[name])


def test_texts_that_the_target_goes_on_with_are_its_own(place, model, tmp_path):
    from safetensors.torch import load_file

    config = quick(steps=1, continue_from_target=True, prompt_tokens=4, continuations=10)
    train_drafter(config, model, [place[1]], Room(tmp_path / "out"))
    tokens = load_file(tmp_path / "out" / "texts" / "train-00000.safetensors")["tokens"]
    assert tokens.shape == (10, 14)
    inputs = model.process.shifted(tokens)
    likeliest = model.network(inputs, torch.zeros(10)).argmax(-1)
    assert torch.equal(likeliest[:, 4:], tokens[:, 4:])
    assert not torch.equal(likeliest[:, :4], tokens[:, :4])


def test_runs_that_cannot_be_are_refused_before_anything_is_written(place, model, tmp_path):
    out = Room(tmp_path / "out")
    with pytest.raises(TrainError, match="length=32 and the begin token do not fit"):
        train_drafter(quick(length=32), model, [place[1]], out)
    with pytest.raises(ValueError, match="a target of speculation is autoregressive"):
        train_drafter(quick(), tiny.model("mdlm"), [place[1]], out)
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    with pytest.raises(ValueError, match="is empty"):
        train_drafter(quick(), model, [str(empty)], out)
    with pytest.raises(ValueError, match="there is no corpus"):
        train_drafter(quick(), model, [str(tmp_path / "none.txt")], out)
    with pytest.raises(ValueError, match="leaves nothing of length=14"):
        quick(continue_from_target=True, prompt_tokens=14)
    assert not (tmp_path / "out").exists()
    train_drafter(quick(), model, [place[1]], out)
    with pytest.raises(TrainError, match="started with other settings"):
        train_drafter(quick(length=10), model, [place[1]], out._replace(resume=True))


def test_every_kind_of_the_table_goes_through_the_loop(place, model, tmp_path):
    for name, kind in KINDS.items():
        made = dataclasses.replace(kind(), anchors=2) if name in ("dflash", "dspark") else kind()
        taught = train_drafter(quick(made, steps=1), model, [place[1]], Room(tmp_path / name))
        assert 0 <= taught.agreement[0].value <= 1
        assert load_trained(tmp_path / name, model).kind == made
