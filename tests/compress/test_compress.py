"""Promises of a whole compression, and of learning again in it."""

import json
import math

import pytest
import torch
from compress.compressing import model, text
from tiny import TEXT

from unison import checkpoints
from unison.cli.main import main
from unison.compress import Compress, CompressError, Levels, Recover, checked, recovered
from unison.compress import speed as timing
from unison.compress.levels import losses, mean_losses, noisy
from unison.compress.recovery import Imitation

LEVELS = Levels(rows=8, count=2, batch_size=4)
FEW = ["--levels.rows", "8", "--levels.count", "2", "--score-rows", "8", "--rounds", "1"]


@pytest.mark.parametrize("family", ["duo", "mdlm", "ar"])
def test_imitating_oneself_is_the_bound_alone(family: str) -> None:
    one = model(family)
    [part] = noisy(Levels(rows=4, count=1), one.process, text(one))
    loss = Imitation(one.network, 1.0).losses(one.process, one.network, part.batch, part.key)
    assert torch.allclose(loss, losses(one.process, one.network, part), atol=1e-5)


@pytest.mark.parametrize("family", ["duo", "mdlm"])
def test_the_distance_is_the_divergence_of_beliefs_where_the_bound_looks(family: str) -> None:
    one, other = model(family), model(family, strength=0.5)
    [part] = noisy(Levels(rows=4, count=1), one.process, text(one))
    bound = losses(one.process, one.network, part)
    imitated = Imitation(other.network, 2.0).losses(one.process, one.network, part.batch, part.key)
    told = []
    handle = other.network.register_forward_hook(lambda net, read, said: told.append((read, said)))
    losses(one.process, other.network, part)
    handle.remove()
    (read, taught) = told[0]
    log_p, log_q = taught.log_softmax(-1), one.network(*read).log_softmax(-1)
    want = 2 * torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)
    assert torch.allclose(imitated - bound, want * (bound != 0), atol=1e-3)


def test_learning_again_brings_a_student_nearer_and_none_changes_nothing() -> None:
    teacher, student = model(), model(strength=0.7)
    rows = text(teacher, 16)
    before = {name: weight.clone() for name, weight in student.network.state_dict().items()}
    assert recovered(student, teacher, rows, Recover()) is student
    seen = []
    taught = recovered(
        student,
        teacher,
        rows,
        Recover(steps=12, lr=6e-3, batch_size=8),
        lambda step, outcome: seen.append(step),
    )
    assert seen == list(range(1, 13))
    assert all(torch.equal(w, before[n]) for n, w in student.network.state_dict().items())
    bounds = [
        float(mean_losses(LEVELS, one.process, one.network, rows).mean())
        for one in (student, taught)
    ]
    assert bounds[1] < bounds[0]


@pytest.fixture
def place(tmp_path):
    """A saved model and a text, as the command line names them."""
    one = model(head_width=16)
    one.notes["train"] = {"data": {"holdout": 0.3, "split": "blank"}}
    checkpoints.save(one, tmp_path / "model")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


def test_the_verb_leaves_a_smaller_model_and_its_table(place, capsys) -> None:
    stages = ["--drop-layers", "1", "--prune-heads", "0.5", "--recover.steps", "2"]
    words = [str(place / "model"), "--out", str(place / "out"), "--text", str(place / "text.txt")]
    assert main(["compress", *words, *stages, "--quantise", "8", *FEW, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = said["stages"]
    names = ["original", "1 layers less", "pruned", "recovered", "8 bits"]
    assert [row["stage"] for row in rows] == names
    sizes, counts = ([row[name] for row in rows] for name in ("bytes", "parameters"))
    assert sizes[0] > sizes[1] > sizes[2] == sizes[3] > 1.8 * sizes[4]
    assert counts[0] > counts[1] > counts[2] == counts[3] == counts[4]
    assert abs(rows[0]["divergence"]) < 1e-6 < rows[1]["divergence"]
    assert rows[0]["change"]["value"] == rows[0]["relative_change"] == 0
    assert all(math.isfinite(row["bits_per_byte"]["stderr"]) for row in rows)
    change = rows[4]["bits_per_byte"]["value"] - rows[0]["bits_per_byte"]["value"]
    assert abs(rows[4]["change"]["value"] - change) < 1e-6
    assert len(said["levels"]["after"]) == 2
    assert (place / "out" / "model.safetensors").stat().st_size == sizes[4]
    assert json.loads((place / "out" / "compression.json").read_text())["stages"] == rows
    table = (place / "out" / "compression.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == [f"| {name}" for name in names]
    back = checkpoints.load(place / "out").network.config
    assert (back.depth, back.heads) == (1, 2)


def test_what_cannot_be_done_is_said_before_any_work(place, capsys) -> None:
    words = [str(place / "model"), "--out", str(place / "out")]
    known = [*words, "--text", str(place / "text.txt")]
    (place / "short.txt").write_text("two\n\nwords", encoding="utf-8")
    for arguments, said in (
        ([*words, "--quantise", "8"], "give --text"),
        ([*words, "--text", str(place / "short.txt"), "--quantise", "8"], "too short"),
        (known, "nothing would be compressed"),
        ([*known, "--prune-heads", "1.5"], "must be in [0, 1)"),
        ([*known, "--prune-heads", "0.1"], "less than 1 of 4"),
        ([*known, "--drop-layers", "2"], "at most 1"),
        ([*known, "--quantise", "8", "--length", "17"], "longer than the 16"),
        ([*known, "--quantise", "4", "--prune-heads", "0.25"], "leaves 48 numbers"),
        ([*known, "--quantise", "8", "--recover.steps", "3"], "goes with pruning"),
        ([*words[:2], str(place), "--quantise", "8"], "not an empty folder"),
        (["--out", str(place / "out")], "name the model first"),
    ):
        assert main(["compress", *arguments]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (place / "out").exists()


def test_networks_of_other_libraries_are_refused() -> None:
    one = model()
    object.__setattr__(one, "network", torch.nn.Linear(2, 2))
    with pytest.raises(CompressError, match="a Linear cannot be compressed"):
        checked(one, Compress(quantise=8))


def test_the_original_is_as_fast_as_itself() -> None:
    one = model()
    told = timing.speeds({"original": one.network}, 16, rounds=2)
    assert told["original"].ratio == 1
    assert told["original"].milliseconds > 0
