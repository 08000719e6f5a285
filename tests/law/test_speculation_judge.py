"""A judge's head learns which tokens were planted, and a command draws what rules accept."""

import json

import pytest
import torch
from inside import network

from unison.cli import acceptance
from unison.cli.main import main
from unison.drafters.judge_head import JudgeHead
from unison.prob import rng
from unison.prob.rng import Key

# Mostly one token, so that most of what is planted is another.
TEXTS = torch.tensor(
    [[5, *[(row + i) % 5 if (row * i) % 6 == 5 else 1 for i in range(23)]] for row in range(16)]
)


def test_planted_spans_change_the_share_asked_for_and_nothing_else():
    inputs = torch.arange(400).reshape(4, 100)
    planted = JudgeHead(share=0.2, span=4).planted(inputs, Key(rng.rows(0, 0, 4)))
    assert torch.equal(planted.inputs != inputs, planted.wrong)
    assert not planted.wrong[:, 0].any()
    assert 0.1 < planted.wrong.float().mean() < 0.3
    assert torch.isin(planted.inputs, inputs).all()
    runs = "".join("x" if wrong else " " for wrong in planted.wrong.flatten().tolist()).split()
    assert sum(len(run) >= 4 for run in runs) > len(runs) / 2


def test_an_undecided_head_loses_log_2_a_token_and_finds_nothing_right():
    net, kind = network(6), JudgeHead()
    head = kind.module(net)
    lesson = kind.lesson(head, net, TEXTS, Key(rng.rows(0, 0, len(TEXTS))))
    assert float((lesson.loss.total / lesson.loss.count).detach()) == pytest.approx(
        0.6931, abs=1e-3
    )
    planted = kind.planted(TEXTS, Key(rng.rows(0, 0, len(TEXTS))))
    assert float(lesson.hits[0]) == int(planted.wrong.sum())


def test_a_head_learns_to_tell_planted_tokens_and_the_target_learns_nothing():
    net, kind = network(6), JudgeHead(share=0.3, span=2)
    before = [weight.clone() for weight in net.parameters()]
    head = kind.module(net)
    adam = torch.optim.Adam(head.parameters(), 0.05)
    losses = []
    for step in range(60):
        lesson = kind.lesson(head, net, TEXTS, Key(rng.rows(0, 0, len(TEXTS)), step % 4))
        loss = lesson.loss.total / lesson.loss.count
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-4:]) / 4 < sum(losses[:4]) / 4 - 0.02
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert kind.verifier(head).head is head


def test_a_judge_is_no_drafter():
    net, kind = network(6), JudgeHead()
    with pytest.raises(ValueError, match="verifies"):
        kind.drafter(kind.module(net), net)


@pytest.mark.parametrize(("setting", "value"), [("share", 0.0), ("share", 1.0), ("span", 0)])
def test_a_judge_refuses_shares_and_spans_that_mean_nothing(setting, value):
    with pytest.raises(ValueError, match=setting):
        JudgeHead(**{setting: value})


def test_the_command_says_what_each_rule_accepts(capsys):
    assert main(["acceptance", "--json", "--k", "2", "--places", "3", "--vocab", "20"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["0.5", "1"]
    for found in said.values():
        assert found["rrs"][0] == pytest.approx(found["token"][0], abs=1e-9)
        assert found["rrs"][1] <= found["kseq"][1] <= found["independent drafts"][1]
        assert found["rsd"][1] <= found["without replacement"][1] + 1e-9
        assert found["greedy"] == pytest.approx(found["greedy drafts"])


def test_the_command_draws_the_gap(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "gap.png"
    given = ["acceptance", "--k", "2", "--places", "2", "--vocab", "9", "--out", str(out)]
    assert main(given) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "best, without replacement" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "x"], "--drafter"),
        (["--k", "0"], "--k"),
        (["--temperatures", "0"], "above 0"),
        (["--out", "gap.jpeg"], ".png"),
    ],
)
def test_the_command_refuses_what_cannot_be_drawn(arguments, says):
    with pytest.raises(ValueError, match=says):
        acceptance.run(arguments)
