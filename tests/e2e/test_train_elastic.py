"""One network that holds many, from the command line: trained, described, cut, or refused."""

import json

import pytest
import tiny
import torch

from unison import checkpoints
from unison.cli.main import main
from unison.compress.elastic.space import layers_of

FLAGS = (
    "--train.steps", "4", "--train.batch-size", "4", "--train.eval-blocks", "4",
    "--train.model.hidden", "16", "--train.model.depth", "2", "--train.model.heads", "2",
    "--train.model.max-length", "16", "--train.model.cond-dim", "8", "--train.data.split", "blank",
    "--train.data.tokenizer.kind", "char", "--elastic.depths", "0.5", "1.0", "--elastic.heads",
    "0.5", "1.0", "--elastic.mlps", "0.5", "1.0", "--device", "cpu",
)  # fmt: skip
HALF = ("--depth", "1", "--heads", "1", "--mlp", "32", "--device", "cpu")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elastic")
    text = tiny.corpus(folder)
    assert main(["train-elastic", "--text", text, "--out", str(folder / "large"), *FLAGS]) == 0
    return folder / "large"


def refused(capsys, *arguments):
    """Run a verb that must fail; return the line it says why in."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


def test_a_run_leaves_a_model_and_what_each_network_in_it_is_worth(large, capsys):
    rows = json.loads((large / "elastic.json").read_text(encoding="utf-8"))
    sizes = {(row["depth"], row["heads"], row["mlp"]) for row in rows}
    assert sizes == {(d, h, m) for d in (1, 2) for h in (1, 2) for m in (32, 64)}
    assert len((large / "elastic.md").read_text(encoding="utf-8").splitlines()) >= len(rows)
    left = {path.name for path in large.iterdir()}
    assert {"run.json", "config.json", "model.safetensors", "tokenizer.json", "log.jsonl"} <= left
    again = ("train-elastic", "--text", large.parent / "text.txt", "--out", large, *FLAGS)
    assert "use --resume" in refused(capsys, *again)
    capsys.readouterr()
    assert main([*map(str, again), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 4


@torch.no_grad()
def test_what_is_cut_out_answers_as_the_large_network_does_with_the_rest_silenced(
    large, tmp_path, capsys
):
    whole = checkpoints.load(large)
    tiny.randomise(whole.network)  # hardly trained networks all say the same
    checkpoints.save(whole, tmp_path / "whole")
    assert main(["cut", str(tmp_path / "whole"), "--out", str(tmp_path / "half"), *HALF]) == 0
    small = checkpoints.load(tmp_path / "half")
    said = capsys.readouterr().out
    assert f"{sum(w.numel() for w in small.network.parameters()):,} weights" in said
    tokens = torch.arange(48).reshape(3, 16) * 7 % small.process.vocab_size
    asked = tokens, torch.tensor([0.1, 1.0, 3.0])
    before = whole.network(*asked)
    for number, block in enumerate(whole.network.blocks):
        heads, units = (8, 32) if number in layers_of(2, 1) else (0, 0)
        block.attention.out.weight[:, heads:] = 0
        block.mlp.down.weight[:, units:] = 0
        block.mlp.down.bias *= units > 0
    torch.testing.assert_close(small.network(*asked), whole.network(*asked), rtol=1e-4, atol=1e-5)
    assert (before - whole.network(*asked)).abs().max() > 0.1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--elastic.sampling", "strugling"), "strugling"),
        (("--elastic.depths", "1.0", "--elastic.heads", "1.0", "--elastic.mlps", "1.0"),
         "needs a network smaller than the whole"),
        (("--base", "nowhere"), "nowhere"),
        (("--elastic.shares", "0.5"), "unknown option '--elastic.shares'"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_is_refused_in_one_line_and_leaves_nothing(
    flags, message, large, tmp_path, capsys
):
    out = tmp_path / "out"
    start = ("train-elastic", "--text", large.parent / "text.txt", "--out", out, *FLAGS)
    assert message in refused(capsys, *start, *flags)
    assert not out.exists()


def test_cuts_that_cannot_be_are_refused_in_one_line(large, tmp_path, capsys):
    out = tmp_path / "out"
    assert "name the elastic run first" in refused(capsys, "cut", "--out", out, *HALF)
    assert "is not an empty folder" in refused(capsys, "cut", large, "--out", large, *HALF)
    many = ("--depth", "3", "--heads", "1", "--mlp", "32", "--device", "cpu")
    assert "3" in refused(capsys, "cut", large, "--out", out, *many)
    assert "no-such-run" in refused(capsys, "cut", tmp_path / "no-such-run", "--out", out, *HALF)
    assert not out.exists()
