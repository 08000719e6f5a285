"""A run that begins with another model's weights, keeping its tokenizer."""

import pytest
import tiny
import torch

import unison
from unison.cli.main import main
from unison.recipes.run import Place, train
from unison.train import Optimizer, TrainError

STILL = Optimizer(lr=1e-12, warmup=0)  # steps that move nothing a float32 can show


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return tiny.corpus(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def base(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "run"
    tiny.run(tiny.config("duo", steps=4), text, folder)
    return folder


def went_on(config, text, out, base):
    return train(config, text, Place(out, device="cpu"), base=base)


def test_it_begins_with_the_weights_of_the_base(base, text, tmp_path):
    config = tiny.config("duo", steps=1, seed=7, optimizer=STILL)
    went_on(config, [str(text)], tmp_path / "on", base)
    before, after = (unison.load(path, "cpu").network for path in (base, tmp_path / "on"))
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight, rtol=1e-5, atol=1e-7)


def test_its_tokens_mean_what_the_bases_do_whatever_the_new_text_holds(base, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"abc abc {number % 10} abc" * 4 for number in range(40)))
    went_on(tiny.config("duo", steps=1), [str(other)], tmp_path / "on", base)
    theirs, ours = (unison.load(path, "cpu").tokenizer for path in (base, tmp_path / "on"))
    assert ours.encode("the cat sat") == theirs.encode("the cat sat")


def test_without_text_it_reads_what_the_base_read(base, tmp_path):
    went_on(tiny.config("duo", steps=1), [], tmp_path / "on", base)
    assert unison.load(tmp_path / "on").notes["text"] == unison.load(base).notes["text"]


def test_one_cut_off_and_resumed_ends_bit_for_bit_as_if_never_cut(base, text, tmp_path):
    config = tiny.config("duo")

    def cut(event):
        if event.step == 6:
            raise tiny.Cut

    pieces = Place(tmp_path / "pieces", resume=True, device="cpu")
    with pytest.raises(tiny.Cut):
        train(config, [str(text)], pieces, base=base, observe=[cut])
    train(config, [str(text)], pieces, base=base)
    went_on(config, [str(text)], tmp_path / "whole", base)
    tiny.assert_same(tmp_path / "whole", tmp_path / "pieces")


def test_another_shape_is_refused_with_the_flags_that_would_fit(base, text, tmp_path):
    config = tiny.config("duo", model={"depth": 3})
    with pytest.raises(TrainError, match=r"another shape than this run; give --model\.depth 1"):
        went_on(config, [str(text)], tmp_path / "on", base)
    assert not (tmp_path / "on").exists()


def test_another_process_is_refused_with_the_verb_for_it(base, text, tmp_path):
    with pytest.raises(TrainError, match=r"of the uniform process .* unison adapt"):
        went_on(tiny.config("mdlm"), [str(text)], tmp_path / "on", base)


def test_shared_numbers_are_refused_beside_a_base(base, text, tmp_path):
    with pytest.raises(TrainError, match="leave out --base"):
        went_on(tiny.config("duo", shared=0.5), [str(text)], tmp_path / "on", base)


def test_on_the_command_line(base, tmp_path, capsys):
    flags = ["--model.hidden", "16", "--model.depth", "1", "--model.max-length", "16",
             "--model.cond-dim", "8", "--steps", "1", "--device", "cpu"]  # fmt: skip
    out = tmp_path / "on"
    assert main(["train", *flags, "--base", str(base), "--out", str(out)]) == 0
    assert "next: unison generate" in capsys.readouterr().out
    assert main(["train", "--base", str(tmp_path / "no"), "--out", str(tmp_path / "new")]) == 2
    assert "is not a directory" in capsys.readouterr().err
