"""Feature drafters: what they guess is a matter of speed, never of what is written."""

import math

import following
import pytest
import tiny
import torch
from torch.nn import functional as F

from unison.drafters import KINDS
from unison.drafters.eagle import Eagle, eagle3, fspad, msd, two_stage
from unison.drafters.kind import watched
from unison.engine.reading import NetworkTarget, target_of
from unison.models import layers
from unison.prob.rng import Key
from unison.speculation import Ask, Speculation, Text, prove, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.top_k import TopK
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.verifiers.token import Token

NAMES = ("eagle", "eagle3", "fspad", "msd")


@pytest.fixture(scope="module")
def target():
    return target_of(tiny.model("ar", length=96, depth=3, strength=2.0))


def drafter_of(name, target, seed=0):
    kind = KINDS[name]()
    module = kind.module(target.network)
    tiny.randomise(module, 1.0, seed)
    return kind.drafter(module.eval(), target.network)


def asked(target, room=(16, 7, 12)):
    begin = target.begin
    tokens = torch.tensor([[begin, 3, 5, 7, 2], [begin, 1, 4, 0, 0], [begin, 0, 0, 0, 0]])
    return Ask(Text(tokens, torch.tensor([5, 3, 1])), list(room), torch.arange(3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("builder", [Chain(), TopK()], ids=["chain", "tree"])
def test_greedy_text_is_that_of_plain_decoding_whatever_is_drafted(target, name, builder):
    plain = speculate(Speculation(policy=Plain(0.0)), target, asked(target))
    how = Speculation(drafter_of(name, target), builder, policy=Plain(0.0))
    assert speculate(how, target, asked(target)).tokens == plain.tokens


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("builder", [Chain(), TopK()], ids=["chain", "tree"])
def test_after_many_rounds_guesses_are_those_of_a_drafter_that_read_the_text_at_once(
    target, name, builder
):
    watched = following.Watched(drafter_of(name, target), target)
    how = Speculation(watched, builder, policy=Plain(1.0), scheduler=Fixed(2))
    speculate(how, target, asked(target))
    assert len(watched.gaps) > 20
    assert max(watched.gaps) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_counts_the_very_guesses_that_drafting_makes(target, name):
    kind = KINDS[name]()
    module = kind.module(target.network)
    tiny.randomise(module, 1.0, 3)
    text = [target.begin, 4, 8, 1, 1, 6, 2, 9, 3, 5, 7, 0, 2]
    with torch.no_grad():
        lesson = kind.lesson(
            module, target.network, torch.tensor([text]), Key(torch.zeros(1, dtype=torch.int64))
        )
    drafted = following.agreement(kind.drafter(module, target.network), target, text, 4)
    assert lesson.places.tolist() == [12, 11, 10, 9]
    assert lesson.hits.tolist() == drafted


def test_the_loss_of_eagle_is_smooth_l1_of_the_feature_and_a_tenth_of_the_soft_cross_entropy(
    target,
):
    kind = Eagle(noise=0.0)
    module = kind.module(target.network)
    tiny.randomise(module, 1.0, 1)
    inputs = torch.tensor([[target.begin, 4, 8, 1, 6, 2], [target.begin, 3, 3, 9, 0, 5]])
    features = watched(target.network, inputs).hidden
    # The reference goes through the block as the model itself does, whole text at once.
    h = module.fuse(torch.cat([target.network.embed(inputs[:, 1:]), features[:, :-1]], -1))
    angles = layers.angles(torch.arange(5), module.config)
    guess = module.block(h, None, angles, torch.ones(5, 5).tril().bool()[None, None])
    truth = features[:, 1:]
    p = target.network.logits(truth).softmax(-1)
    soft = -(p * target.network.logits(guess).log_softmax(-1)).sum()
    wanted = F.smooth_l1_loss(guess, truth, reduction="none").mean(-1).sum() + 0.1 * soft
    lesson = kind.lesson(module, target.network, inputs, Key(torch.arange(2)))
    assert float(lesson.loss.total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert int(lesson.loss.count) == 10


def test_later_steps_of_eagle_3_weigh_less_by_the_decay(target):
    inputs = torch.tensor([[target.begin, 4, 8, 1, 6, 2]])
    key = Key(torch.zeros(1, dtype=torch.int64))
    totals = []
    for unroll, decay in ((1, 0.5), (2, 0.5), (2, 1.0)):
        kind = Eagle(streams=3, regress=0.0, speak=1.0, noise=0.0, unroll=unroll, decay=decay)
        module = kind.module(target.network)
        tiny.randomise(module, 1.0, 1)
        totals.append(float(kind.lesson(module, target.network, inputs, key).loss.total.detach()))
    first, halved, whole = totals
    assert whole - first > 1
    assert halved - first == pytest.approx((whole - first) / 2, rel=1e-5)


def test_noise_is_drawn_from_the_key_and_only_while_learning(target):
    kind = Eagle(noise=0.5)
    module = kind.module(target.network)
    inputs = torch.tensor([[target.begin, 4, 8, 1, 6, 2]])

    def loss(seed):
        key = Key(torch.tensor([seed]))
        return float(kind.lesson(module, target.network, inputs, key).loss.total.detach())

    assert loss(0) == loss(0) != loss(1)
    with torch.no_grad():
        assert loss(0) == loss(1)


def test_fspad_speaks_with_one_half_and_feeds_back_the_other(target):
    inputs = torch.tensor([[target.begin, 4, 8, 1, 6, 2]])
    key = Key(torch.zeros(1, dtype=torch.int64))
    width = target.network.config.hidden
    for speak, regress, still in ((1.0, 0.0, slice(width, None)), (0.0, 1.0, slice(0, width))):
        kind = Eagle(fusion="gated", split=True, speak=speak, regress=regress, noise=0.0)
        module = kind.module(target.network)
        kind.lesson(module, target.network, inputs, key).loss.total.backward()
        grad = module.block.mlp.down.weight.grad
        assert not grad[still].any()
        assert grad.any()


def test_the_gate_of_fspad_is_opened_by_the_token_alone(target):
    module = fspad().module(target.network)
    tiny.randomise(module, 1.0, 2)
    width = target.network.config.hidden
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(1, 4, width, generator=generator)
    e = torch.randn(1, 4, width, generator=generator)
    gate = module.gate
    opened = F.silu(e @ gate.gate.weight.T) * (gate.norm(h) @ gate.up.weight.T)
    assert torch.allclose(gate(h, e), h + opened @ gate.down.weight.T, atol=1e-5)


@pytest.mark.parametrize("name", ["eagle", "eagle3", "fspad"])
def test_the_law_of_sampled_text_is_the_targets_to_the_last_digit_of_float32(name):
    model = tiny.model("ar", length=16, depth=2)
    network = type(model.network)(tiny.shape("ar", vocab_size=3, num_states=4))
    tiny.randomise(network, 2.0)
    target = NetworkTarget(network.eval(), 3)
    how = Speculation(drafter_of(name, target), Chain(sampled=True), Token(), Fixed(2))
    proof = prove(how, target, [1], 3)
    assert proof.error < 1e-6
    assert proof.ways > 27


class TestVisualTokens:
    """Tokens below zero are probes of the target: what a picture would be."""

    @pytest.fixture
    def seeing(self, target):
        width = target.network.config.hidden
        shown = torch.randn(3, width, generator=torch.Generator().manual_seed(5))
        return NetworkTarget(target.network, target.begin, probes=shown)

    @staticmethod
    def law(drafter, target, shift):
        """The guess behind a picture and a token, the first features being off by something."""
        tokens = torch.tensor([[target.begin, -1, -2, 5]])
        length = torch.tensor([4])
        scores = target.open(1).read(tokens[:, :3], length - 1)
        moved = scores.hidden + torch.tensor(shift)[None, :, None]
        drafting = drafter.open(target, 1)
        drafting.begin(Text(tokens, length), scores._replace(hidden=moved))
        from unison.speculation import tree as trees

        tree = trees.planted(tokens[:, 3], target.vocab_size)
        return drafting.guess(tree, torch.tensor([[0]])).logq[0, 0]

    def test_they_are_not_paired_with_the_feature_before_them(self, seeing):
        for name, paired in (("msd", False), ("eagle", True)):
            drafter = drafter_of(name, seeing)
            as_it_is = self.law(drafter, seeing, [0.0, 0.0, 0.0])
            before_pictures = self.law(drafter, seeing, [3.0, -3.0, 0.0])
            before_token = self.law(drafter, seeing, [0.0, 0.0, 3.0])
            assert torch.equal(as_it_is, before_pictures) != paired
            assert not torch.equal(as_it_is, before_token)

    def test_they_go_in_by_their_own_embedding(self, seeing, target):
        drafter = drafter_of("msd", seeing)
        other = NetworkTarget(target.network, target.begin, probes=seeing.probes.flip(0))
        same_features = [0.0, 0.0, 0.0]
        one = self.law(drafter, seeing, same_features)
        assert not torch.equal(one, self.law(drafter, other, same_features))

    def test_the_text_written_behind_a_picture_is_that_of_plain_decoding(self, seeing):
        tokens = torch.tensor([[seeing.begin, -1, -3, 5], [seeing.begin, 2, -2, 0]])
        ask = Ask(Text(tokens, torch.tensor([4, 3])), [20, 20], torch.arange(2))
        plain = speculate(Speculation(policy=Plain(0.0)), seeing, ask)
        how = Speculation(drafter_of("msd", seeing), TopK(), policy=Plain(0.0))
        assert speculate(how, seeing, ask).tokens == plain.tokens

    def test_lessons_leave_them_out_and_pass_by_the_same_door(self, seeing):
        kind = msd()
        module = kind.module(seeing.network)
        tiny.randomise(module, 1.0, 3)
        text = [seeing.begin, -1, -2, 1, 6, 2, 9]
        inputs = torch.tensor([text])
        scores = seeing.open(1).read(inputs, torch.tensor([7]))
        key = Key(torch.zeros(1, dtype=torch.int64))
        with torch.no_grad():
            lesson = kind.lesson_of(module, seeing.network, inputs, scores, key, seeing.probes)
        assert lesson.places.tolist() == [4, 4, 4, 3]
        drafter = kind.drafter(module, seeing.network)
        drafted = following.agreement(drafter, seeing, text, 1, first=3)
        assert lesson.hits[0].tolist() == drafted[0]

    def test_the_second_half_of_training_brings_them_in_little_by_little(self):
        assert [two_stage(step, 8) for step in range(9)] == [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"unroll": 0}, "unroll must be at least 1, got 0"),
        ({"noise": -1.0}, "noise must be at least 0, got -1"),
        ({"regress": 0.0, "speak": 0.0}, "nothing would be learnt"),
        ({"streams": 3}, "set regress to 0"),
        ({"decay": 0.0}, r"decay must be in \(0, 1\], got 0"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Eagle(**settings)


def test_a_drafter_refuses_a_target_with_other_tokens(target):
    other = target_of(tiny.model("ar", length=16))
    drafter = drafter_of("eagle", target)
    smaller = NetworkTarget(
        type(other.network)(tiny.shape("ar", vocab_size=3, num_states=4)).eval(), 3
    )
    with pytest.raises(ValueError, match=r"made for \d+ tokens and the target has 3"):
        drafter.open(smaller, 1)


def test_eagle_3_of_a_small_network_may_read_a_stream_twice():
    target = target_of(tiny.model("ar", length=32, depth=1))
    drafter = drafter_of("eagle3", target)
    assert drafter.streams == (1, 0, 0)
    assert drafter.taps == (0, 1)
    assert math.isfinite(
        float(
            eagle3()
            .lesson(
                drafter.module,
                target.network,
                torch.tensor([[target.begin, 1, 2, 3, 4, 5]]),
                Key(torch.zeros(1, dtype=torch.int64)),
            )
            .loss.total.detach()
        )
    )
