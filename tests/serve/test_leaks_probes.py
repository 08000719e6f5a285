"""The probes that must learn or rebuild, and the audit of real models and of the command line."""

import json
from functools import partial

import looking
import pytest
import tiny
import torch

from unison.cli.main import main
from unison.serve.leaks import OFF, Knobs, told
from unison.serve.leaks.attacker import Leak, leaks
from unison.serve.leaks.candidates import talk
from unison.serve.leaks.inverter import Training, inverted
from unison.serve.leaks.report import Row, advised, panels, rows_of, spans, toy_rows
from unison.serve.leaks.subspace import head_of, rebuild, seen_rank
from unison.serve.leaks.talk import listed
from unison.serve.leaks.toy import Toy, following
from unison.types import Estimate

WIDE = Toy(vocab=32, width=6)
SMALL = Toy(vocab=4, prompt=2, width=2, strength=2.0)
SOME = [Knobs(), Knobs(2), Knobs(0, 1), OFF]


@pytest.fixture(scope="module")
def wide():
    network = WIDE.network()
    logp = following(network, WIDE.prompts[:: len(WIDE.prompts) // 60][:60]).double()
    return logp, head_of(network)


def test_as_many_numbers_as_the_layer_is_wide_and_one_give_all(wide):
    logp, head = wide
    assert head.rank == WIDE.width + 1
    rebuilt = rebuild(told(logp, WIDE.width + 1, None), head)
    assert rebuilt.settled.all()
    assert (rebuilt.logp - logp).abs().max() < 1e-2
    assert (rebuild(told(logp, 20, None), head).logp - logp).abs().max() < 1e-4


def test_one_number_fewer_leaves_the_rest_open(wide):
    logp, head = wide
    rebuilt = rebuild(told(logp, WIDE.width, None), head)
    assert not rebuilt.settled.any()
    assert rebuilt.residual.max() < 1e-9  # the told ones fit: there is nothing to doubt them by
    assert (rebuilt.logp - logp).abs().max() > 1


def test_what_the_layer_read_is_rebuilt(wide):
    logp, head = wide
    hidden = rebuild(told(logp, None, None), head).hidden
    answered = (hidden @ head.weight.T + head.bias).log_softmax(-1)
    assert (answered - logp).abs().max() < 1e-4


def test_rounded_numbers_are_missed_by_no_more_than_their_rounding(wide):
    logp, head = wide
    for digits in (1, 3):
        rebuilt = rebuild(told(logp, None, digits), head)
        assert rebuilt.residual.max() < 10.0**-digits
        assert (rebuilt.logp - logp).abs().max() < 5 * 10.0**-digits


def test_nothing_told_settles_nothing(wide):
    logp, head = wide
    rebuilt = rebuild(told(logp, 0, None), head)
    assert not rebuilt.settled.any()
    assert rebuilt.residual.abs().max() == 0


def test_the_width_is_seen_without_weights(wide):
    assert seen_rank(wide[0]) == WIDE.width + 1
    with pytest.raises(ValueError, match="at least 2 vectors"):
        seen_rank(wide[0][:1])


def test_a_bias_of_the_layer_is_taken_into_account():
    made = tiny.model("ar").network
    h = torch.linspace(-1, 1, 5 * made.config.hidden).reshape(1, 5, -1)
    logp = made.logits(h)[0].log_softmax(-1).detach().double()
    head = head_of(made)
    assert (rebuild(told(logp, None, None), head).logp - logp).abs().max() < 1e-4


def test_only_our_transformers_output_layer_is_known():
    with pytest.raises(ValueError, match="a Lookup is not known"):
        head_of(looking.model(causal=True).network)


@pytest.fixture(scope="module")
def conversation():
    network = SMALL.network()
    return listed(partial(following, network), SMALL.prompts, 2), head_of(network)


@pytest.mark.parametrize("knobs", SOME, ids=str)
def test_the_inverter_beats_chance_and_never_the_best_attacker(knobs, conversation):
    said, head = conversation
    found = inverted(said, knobs, SMALL.prompts, head, Training(width=32, steps=80, batch=128))
    best = leaks(said, knobs, SMALL.prompts)[-1]
    chance = 1 / len(SMALL.prompts)
    assert 1.2 * chance < found.prompts <= best.prompts.value + 1e-12
    assert 1 / SMALL.vocab < found.tokens <= best.tokens + 1e-12
    assert found.turns == 2


def test_the_inverter_learns_from_numbers_what_the_text_does_not_say(conversation):
    said, head = conversation
    training = Training(width=32, steps=80, batch=128)
    found = [inverted(said, knobs, SMALL.prompts, head, training) for knobs in (Knobs(), OFF)]
    assert found[0].prompts > 2 * found[1].prompts


def test_the_inverter_is_the_same_for_its_seed(conversation):
    said, head = conversation
    training = Training(width=8, steps=5, batch=16)
    one, two = (inverted(said, Knobs(), SMALL.prompts, head, training) for _ in range(2))
    assert one == two


def test_an_inverter_that_learns_nothing_is_refused():
    with pytest.raises(ValueError, match="must be at least 1"):
        Training(steps=0)


PROMPTS = ["the quick", "lazy dogs", "number 4", "fox"]


@pytest.mark.parametrize("family", ["ar", "mdlm"])
def test_a_hidden_candidate_is_named_from_exact_numbers(family):
    said = talk(tiny.model(family), PROMPTS, turns=2, draws=3, visible=" ")
    rows = rows_of(said, [Knobs(), Knobs(0, 1), OFF])
    whole, own, text = (row.best[-1] for row in rows)
    assert whole.prompts.value == pytest.approx(1)
    assert whole.bits == pytest.approx(2)
    assert text.prompts.value <= own.prompts.value <= whole.prompts.value + 1e-12
    assert 0.25 <= text.prompts.value < 1
    assert text.prompts.stderr > 0


def test_a_real_models_law_is_that_of_its_tokens_one_by_one():
    model = tiny.model("ar")
    said = talk(model, PROMPTS[:2], turns=2, draws=1)
    first, second = said.turns
    for x, prompt in enumerate(PROMPTS[:2]):
        ids = model.tokenizer.encode(prompt)
        for y, token in enumerate(first.token.tolist()):
            for turn, before in ((first, ids), (second, [*ids, token])):
                canvas = torch.tensor([[*before, model.process.mask_id]])
                law = model.denoiser()(canvas, torch.ones(1))[0, -1]
                assert (turn.belief[x, y] - law).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("family", "prompts", "how", "why"),
    [
        ("duo", PROMPTS, {}, "no law of the next token"),
        ("ar", PROMPTS[:1], {}, "at least 2 candidates"),
        ("ar", ["fox", "fox"], {}, "the same tokens"),
        ("ar", ["fox", "the quick brown fox"], {}, "the model reads 16"),
        ("ar", PROMPTS, {"turns": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_audited_is_refused(family, prompts, how, why):
    with pytest.raises(ValueError, match=why):
        talk(tiny.model(family), prompts, **how)


def row(knobs, recovered, bits):
    return Row(knobs, (Leak(1, Estimate(recovered, 0.0, 1, "prompts"), None, bits),))


def test_the_most_telling_harmless_setting_is_recommended():
    rows = [row(Knobs(), 1, 3), row(Knobs(1, 1), 0.24, 0.9), row(Knobs(0, 0), 0.23, 0.5)]
    rows.append(row(OFF, 0.2, 0.1))
    assert advised(rows, 0.05).knobs == Knobs(1, 1)
    assert advised(rows, 0.035).knobs == Knobs(0, 0)
    assert advised(rows, 0.0).knobs == OFF
    with pytest.raises(ValueError, match="text alone"):
        advised(rows[:2])


def test_the_toys_report_closes_only_where_nothing_is_told():
    rows = toy_rows(SMALL, 2, None, SOME)
    assert [each.knobs for each in rows] == SOME
    assert advised(rows).knobs == OFF
    best, *rest = panels(rows)
    assert not rest
    assert best.curves[0].y == [leak.prompts.value for leak in rows[0].best]


def test_the_subspace_report_shows_where_the_vocabulary_is_settled():
    nine, eight, rounded = spans([Knobs(9), Knobs(8), Knobs(None, 2)])
    assert (nine.settled, eight.settled, rounded.settled) == (True, False, True)
    assert (nine.rank, rounded.rank) == (None, 9)
    assert nine.error < 1e-3 < rounded.error < 0.1 < eight.error


def test_the_command_line_audits_the_toy(capsys):
    arguments = ["audit-leaks", "--turns", "1", "--inverter-steps", "0", "--json"]
    assert main([*arguments, "--logprobs", "3", "--logprob-digits", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    asked = said["knobs"][-1]
    assert (asked["top_k"], asked["digits"], asked["own"]) == (3, 2, True)
    recovered = [each["best"][-1]["prompts"]["value"] for each in said["knobs"]]
    assert recovered[0] == pytest.approx(1)
    assert said["advice"]["text_only"] == min(recovered)
    assert said["advice"]["recovered"] <= min(recovered) + 0.05


def test_the_command_line_prints_a_table_and_the_recommendation(capsys):
    assert main(["audit-leaks", "--turns", "1", "--inverter-steps", "0"]) == 0
    said = capsys.readouterr().out
    assert "all tokens" in said
    assert "the text alone names" in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["runs/none"], "--candidates"),
        (["--candidates", "x.txt"], "--candidates"),
        (["--turns", "9"], "1 to 4 turns"),
        (["--out", "leaks.jpg"], "must end in"),
        (["--inverter-steps", "-1"], "inverter_steps"),
    ],
)
def test_the_command_line_refuses_what_it_cannot_audit(arguments, why, capsys):
    assert main(["audit-leaks", *arguments]) == 2
    assert why in capsys.readouterr().err
