"""Do selections choose what their papers say? Numbers worked by hand, and their theorems."""

import math

import numpy as np
import pytest
import torch
from oracle import composed as oracle
from oracle.decoding import random_tables
from sights import chosen, ragged, seen, sure, uncertain

from unison.decode import Canvas, decode, start
from unison.decode.diffusion.composed import Composed
from unison.decode.order import Confidence, Entropy, Margin, Perturbed
from unison.decode.select import (
    SELECTS,
    Ascending,
    Bernoulli,
    Count,
    Dilated,
    Dream,
    EntropyBound,
    Factor,
    Learned,
    LocalLeap,
    Shifted,
    Spaced,
    Threshold,
)
from unison.decode.select.learned import Filter, load_filter, save_filter
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing


def counts(select, size, steps=None, first=None):
    """How many positions each step of a block writes; ``first`` open ones of ``size``."""
    open_, step, written = torch.arange(size)[None] < (first or size), 0, []
    while open_.any():
        sight = seen(
            torch.zeros(1, size, 2).log_softmax(-1),
            live=torch.ones(1, size, dtype=torch.bool),
            open_=open_,
            left=max((size if steps is None else steps) - step, 1),
            block_step=step,
        )
        taken = select.choose(sight, sight.confidence)
        open_, step = open_ & ~taken, step + 1
        written.append(int(taken.sum()))
    return written


def test_margin_and_entropy_rank_by_hand():
    belief = torch.tensor([[[0.5, 0.3, 0.2], [0.45, 0.45, 0.1], [0.4, 0.3, 0.3]]]).log()
    assert torch.allclose(Margin().score(seen(belief))[0], torch.tensor([0.2, 0.0, 0.1]).double())
    wanted = [sum(p * math.log(p) for p in row) for row in belief.exp()[0].tolist()]
    assert torch.allclose(Entropy().score(seen(belief))[0], torch.tensor(wanted).double())
    other = seen(belief, candidate=torch.tensor([[2, 0, 1]]))
    assert torch.allclose(Confidence().score(other)[0], torch.tensor([0.2, 0.45, 0.3]).double())
    best = torch.tensor([0.5, 0.45, 0.4]).double()
    assert torch.allclose(Confidence("best").score(other)[0], best)


def test_a_certain_token_has_no_entropy_and_the_whole_margin():
    belief = torch.tensor([[[0.0, -torch.inf], [-math.log(2), -math.log(2)]]])
    assert Entropy().score(seen(belief))[0].tolist() == pytest.approx([0.0, -math.log(2)])
    assert Margin().score(seen(belief))[0].tolist() == pytest.approx([1.0, 0.0])


def test_near_certain_positions_still_differ():
    """Where a float32 probability is 1 for all of them."""
    doubts = torch.tensor([1e-8, 3e-9, 1e-9, 2e-9])
    belief = torch.stack([torch.zeros(4), doubts.log()], -1)[None]
    for order in (Confidence(), Confidence("best"), Margin(), Entropy()):
        assert order.score(seen(belief))[0].argsort(descending=True).tolist() == [2, 3, 1, 0]


def test_noise_cools_to_nothing_at_the_last_step():
    noisy = Perturbed(Confidence(), heat=5.0, cools=True)
    sight = ragged(0)._replace(left=torch.full((64,), 3), block_step=torch.ones(64).long())
    full = Perturbed(Confidence(), heat=5.0).score(sight) - sight.confidence
    some = noisy.score(sight) - sight.confidence
    assert torch.allclose(some, full * 2 / 4)
    last = sight._replace(left=torch.ones(64).long())
    assert torch.equal(noisy.score(last), last.confidence)


def test_threshold_by_hand():
    sight = sure(0.95, 0.5, 0.9, 0.89)
    assert chosen(Threshold(0.9 - 1e-6), sight) == [0, 2]
    assert chosen(Threshold(1.0), sight) == [0]
    assert chosen(Threshold(0.0), sight) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("places", "most"), [(1, 1), (4, 4), (5, 5), (7, 5), (10, 7), (20, 14), (29, 20), (60, 20)]
)
def test_the_draft_of_wino_is_capped(places, most):
    """min(max(floor(0.7 n), 5), 20), and no more than there are."""
    sight = sure(*[0.9 + 0.001 * i for i in range(places)])
    draft = Threshold(0.6, share=0.7, floor=5, ceiling=20)
    assert chosen(draft, sight) == list(range(places - most, places))


def test_a_cap_lets_nobody_in():
    assert chosen(Threshold(0.6, ceiling=3), sure(0.95, 0.1, 0.92, 0.2)) == [0, 2]


@pytest.mark.parametrize(
    ("confidence", "wanted"),
    [
        ((0.1, 0.2), [1]),  # the first always
        ((0.9, 0.7), [0, 1]),  # 0.7 >= 1 - 1/3
        ((0.9, 0.66), [0]),
        ((0.9, 0.8, 0.74), [0, 1]),  # 0.74 < 1 - 1/4
        ((0.9, 0.8, 0.76), [0, 1, 2]),  # never broken: all, not one more
        ((0.99, 0.6, 0.99, 0.79, 0.99), [0, 2, 4]),  # a failure ends the run
    ],
)
def test_factor_counts_the_run(confidence, wanted):
    assert chosen(Factor(1.0), sure(*confidence)) == wanted


def test_just_sure_enough_is_sure_enough():
    exactly = torch.tensor([[0.9, 0.5, 0.4]], dtype=torch.float64)
    sight = sure(0.9, 0.5, 0.4)._replace(confidence=exactly)
    assert chosen(Factor(1.5), sight) == [0, 1]  # 1 - 1.5 / 3
    assert chosen(Threshold(0.5), sight) == [0, 1]
    assert chosen(LocalLeap(0.9, 0.4, 2), sight) == [0, 1, 2]


def test_factor_grows_with_f():
    sight = sure(0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    sizes = [len(chosen(Factor(f), sight)) for f in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 6)


def test_what_factor_writes_together_is_the_likeliest_text():
    """Theorem 1 of Fast-dLLM, on joint laws of four tokens with marginals of every sureness."""
    together = 0
    for seed in range(1500):
        draw = np.random.default_rng(seed)
        joint = draw.dirichlet(np.full(81, 0.1)).reshape(3, 3, 3, 3)
        joint[tuple(draw.integers(0, 3, 4))] += draw.exponential(6)
        joint /= joint.sum()
        beliefs = oracle.beliefs(joint, (3, 3, 3, 3))
        sight = seen(torch.from_numpy(beliefs).log().float()[None])
        group = chosen(Factor(1.0), sight)
        together += len(group) > 1
        likeliest = np.unravel_index(np.argmax(oracle.marginal(joint, group)), (3,) * len(group))
        assert list(likeliest) == [int(beliefs[i].argmax()) for i in group]
    assert together > 500


@pytest.mark.parametrize(
    ("bound", "wanted"),
    [
        (0.0, [3]),
        (0.05, [3]),
        (0.11, [1, 3]),
        (0.31, [0, 1, 3]),
        (0.59, [0, 1, 3]),
        (0.61, [0, 1, 2, 3]),
    ],
)
def test_entropy_bound_by_hand(bound, wanted):
    """Nats: 0.1, 0.2, 0.3, 0.6 ascending, so 0, 0.1, 0.3, 0.6 come before them."""
    sight = uncertain(0.3, 0.2, 0.6, 0.1)
    assert chosen(EntropyBound(bound), sight, Entropy().score(sight)) == wanted


def test_without_a_bound_all_is_written_and_without_room_one():
    sight = uncertain(0.0, 0.5, 0.0, 0.6)
    score = Entropy().score(sight)
    assert chosen(EntropyBound(math.inf), sight, score) == [0, 1, 2, 3]
    assert chosen(EntropyBound(0.0), sight, score) == [0, 1, 2]  # the certain ones are free


def test_entropy_bound_leaves_out_the_largest_in_any_order():
    """By position: 0.5 first, then min(0.5, 0.1), then min(0.5, 0.3) is spent."""
    sight = uncertain(0.5, 0.1, 0.3)
    score = -sight.positions.double()
    assert chosen(EntropyBound(0.39), sight, score) == [0, 1]
    assert chosen(EntropyBound(0.41), sight, score) == [0, 1, 2]


@pytest.mark.parametrize("order", [Entropy(), Margin(), Confidence("best")], ids=repr)
def test_the_entropy_bound_bounds_what_independence_costs(order):
    together = 0
    for seed in range(400):
        joint = oracle.random_joint(3, 3, seed, 0.3)
        bound = 0.05 + seed % 20 / 20
        sight = seen(torch.from_numpy(oracle.beliefs(joint, (3, 3, 3))).log().float()[None])
        group = chosen(EntropyBound(bound), sight, order.score(sight))
        together += len(group) > 1
        assert oracle.total_correlation(joint, group) <= bound + 1e-6
    assert together > 30


def test_local_leap_by_hand():
    """Anchor at 2; 0.8 passes near it and not far away."""
    sight = sure(0.8, 0.7, 0.95, 0.8, 0.8, 0.8, 0.3)
    assert chosen(LocalLeap(0.9, 0.75, 2), sight) == [0, 2, 3, 4]
    assert chosen(LocalLeap(0.9, 0.75, 4), sight) == [0, 2, 3, 4, 5]
    assert chosen(LocalLeap(0.9, 0.25, 4), sight) == [0, 1, 2, 3, 4, 5, 6]
    assert chosen(LocalLeap(0.96, 0.75, 4), sight) == [2]  # no anchor: the best alone


def test_local_leap_measures_on_the_canvas():
    """Places side by side may be far apart; those written already are no anchors."""
    sight = sure(0.95, 0.8, 0.8, positions=torch.tensor([[3, 4, 9]]))
    assert chosen(LocalLeap(0.9, 0.75, 2), sight) == [0, 1]
    written = torch.tensor([[False, True, True]])
    assert chosen(LocalLeap(0.9, 0.75, 2), sight._replace(open=written)) == [1]


@pytest.mark.parametrize("seed", range(3))
def test_local_leap_only_adds_to_a_threshold(seed):
    sight = ragged(seed)
    plain = Threshold(0.8).choose(sight, sight.confidence)
    before = plain
    assert torch.equal(LocalLeap(0.8, 0.4, 0).choose(sight, sight.confidence), plain)
    assert torch.equal(LocalLeap(0.8, 0.8, 4).choose(sight, sight.confidence), plain)
    for relaxed, radius in [(0.7, 2), (0.7, 5), (0.3, 5), (0.3, 20)]:
        now = LocalLeap(0.8, relaxed, radius).choose(sight, sight.confidence)
        assert not (before & ~now).any()
        before = now
    assert (before & ~plain).any()


def test_ascending_steps_double():
    assert counts(Ascending(), 256) == [1, 2, 4, 8, 16, 32, 64, 129]
    assert counts(Ascending(), 256, steps=4) == [1, 2, 4, 249]


@pytest.mark.parametrize("size", [*range(1, 34), 63, 64, 65, 100, 127, 128, 255, 257])
def test_ascending_steps_sum_up(size):
    written = counts(Ascending(), size)
    assert sum(written) == size
    assert len(written) == max(int(math.log2(size)), 1)
    assert written[:-1] == [2**i for i in range(len(written) - 1)]


@pytest.mark.parametrize(("size", "open_"), [(9, 1), (16, 15), (12, 5), (8, 8)])
@pytest.mark.parametrize("steps", [1, 3, 7, 16])
@pytest.mark.parametrize("name", ["count", "ascending", "dream", "shifted", "bernoulli"])
def test_quotas_sum_up_to_the_masks_that_are_there(name, size, open_, steps):
    """With 0, 1 or L - 1 of a block written already, in no more steps than were set."""
    written = counts(SELECTS[name](), size, steps, open_)
    assert sum(written) == open_
    assert len(written) <= max(steps, 1)
    assert min(written) >= 1


def test_count_writes_equal_shares_the_rest_first():
    assert counts(Count(), 10, 4) == [3, 3, 2, 2]
    assert counts(Count(), 3, 5) == [1, 1, 1]


def test_dream_counts():
    """floor(m (1 - s/t)) with times from 1 to 0.001; by hand for 8 positions in 4 steps."""
    assert counts(Dream(), 8, 4) == [1, 2, 2, 3]
    assert counts(Dream(0.0), 8, 4) == [2, 2, 2, 2]


@pytest.mark.parametrize(("size", "steps"), [(256, 64), (256, 20), (100, 7), (33, 16), (64, 32)])
def test_dream_counts_as_published(size, steps):
    """The published arithmetic, in float32, wherever it does not come to 0."""
    times, left, wanted = torch.linspace(1, 1e-3, steps + 1), size, []
    for step in range(steps):
        share = 1 - times[step + 1] / times[step]
        wanted.append(int(left * share) if step < steps - 1 else left)
        left -= wanted[-1]
    assert min(wanted) > 0
    assert counts(Dream(), size, steps) == wanted


def test_bernoulli_writes_each_position_with_its_share():
    """Step 2 of 4: t = 0.75 and s = 0.5, near enough; coins differ by position and row."""
    rows, places = 4000, 10
    belief = torch.zeros(rows, places, 2).log_softmax(-1)
    sight = seen(belief, left=3, block_step=1)
    taken = Bernoulli(1e-3).choose(sight, sight.confidence)
    share = 1 - (1 - 0.999 * 2 / 4) / (1 - 0.999 / 4)
    # The highest-ranked place is written too where all coins say no.
    none = (1 - share) ** places
    for place in (0, 1, 9):
        expected = share + (none if place == 0 else 0.0)
        spread = math.sqrt(rows * expected * (1 - expected))
        assert abs(int(taken[:, place].sum()) - rows * expected) < 5 * spread
    assert len(set(map(tuple, taken.tolist()))) > 700


def test_shifted_by_hand():
    """12 positions in 4 steps: s(3/4) = 1/2, s(1/2) = 1/4, s(1/4) = 1/10 at a third."""
    assert counts(Shifted(1 / 3), 12, 4) == [6, 3, 2, 1]
    assert counts(Shifted(3.0), 12, 4) == [2, 1, 3, 6]
    assert counts(Shifted(1.0), 12, 4) == [3, 3, 3, 3]


@pytest.mark.parametrize("shift", [0.05, 1 / 3, 0.9, 1.0, 1.1, 3.0, 20.0])
@pytest.mark.parametrize(("size", "steps"), [(1, 1), (7, 7), (7, 20), (32, 5), (32, 31), (100, 40)])
def test_shifted_steps_are_positive_and_near_the_curve(shift, size, steps):
    written = counts(Shifted(shift), size, steps)
    steps = min(steps, size)
    assert len(written) == steps
    assert min(written) >= 1
    open_ = size
    for step, count in enumerate(written, start=1):
        open_ -= count
        t = 1 - step / steps
        aim = size * shift * t / (1 + (shift - 1) * t)
        within = steps - step <= aim <= size - step
        assert not within or abs(open_ - aim) <= 1


def sets_written(select, length, **settings):
    """The positions each step of one row writes, by a model that says the same of all."""
    process, steps = Absorbing(2), []
    tokens = torch.zeros(1, length, dtype=torch.long)
    key = Key(rng.rows(0, 0, 1))
    canvas = start(process, tokens, torch.zeros_like(tokens, dtype=torch.bool), key)

    def flat(xt, t, focus=None, earlier=None):
        places = xt.shape[1] if focus is None else focus.positions.shape[1]
        return torch.full((len(xt), places, 2), 0.5).log()

    def watch(step, now: Canvas, info):
        if step:
            steps.append(tuple(info.changed[0].nonzero()[:, 0].tolist()))

    decode(Composed(select=select, **settings), process, flat, canvas, key, watch)
    return steps


def test_dilated_halves_the_stride():
    assert sets_written(Dilated(), 8) == [(0, 4), (2, 6), (1, 3, 5, 7)]
    assert sets_written(Dilated(3), 9) == [(0, 3, 6), (1, 2, 4, 5, 7, 8)]
    assert sets_written(Dilated(), 6) == [(0, 4), (2,), (1, 3, 5)]
    assert sets_written(Dilated(), 1) == [(0,)]
    assert sets_written(Dilated(), 6, block_length=4) == [(0, 2), (1, 3), (4, 5)]


def test_dilated_counts_each_rows_own_positions():
    """Rows of 8, 4, 4 and 5 positions side by side; the third has two of them written already."""
    live = torch.arange(8) < torch.tensor([[8], [4], [4], [5]])
    open_ = torch.ones(4, 8, dtype=torch.bool)
    open_[2, ::2] = False
    sight = seen(torch.zeros(4, 8, 2).log_softmax(-1), live=live, open_=open_)
    taken = Dilated().choose(sight, sight.confidence)
    assert [row.nonzero()[:, 0].tolist() for row in taken] == [[0, 4], [0, 2], [1, 3], [0, 4]]


def test_dilated_takes_up_again_what_was_taken_back():
    """In the second step its own turn and what is still, or again, open of the first."""
    sight = sure(*[0.5] * 8, block_step=1)
    assert chosen(Dilated(), sight) == [0, 2, 4, 6]
    back = torch.tensor([[False, True, True, True, True, True, True, True]])
    assert chosen(Dilated(), sight._replace(open=back)) == [2, 4, 6]


@pytest.mark.parametrize("base", [2, 3, 4])
@pytest.mark.parametrize(("length", "block"), [(16, 16), (32, 8), (27, 9), (30, 10), (15, 5)])
def test_dilated_takes_the_logarithm_of_a_block(base, length, block):
    levels = next(k for k in range(block) if base**k >= block)
    steps = sets_written(Dilated(base), length, block_length=block)
    assert len(steps) == length // block * levels
    assert sorted(sum(steps, ())) == list(range(length))


def test_dilated_is_exact_on_a_markov_chain_but_for_its_first_step():
    joint = oracle.chain(8, np.array([[0.9, 0.1], [0.2, 0.8]]))

    def costs(groups):
        known = [sum(groups[:i], ()) for i in range(len(groups))]
        return [
            oracle.total_correlation(joint, group, before)
            for group, before in zip(groups, known, strict=True)
        ]

    assert costs(sets_written(Dilated(), 8)) == pytest.approx([0.028, 0, 0], abs=5e-4)
    side_by_side = [(0, 1), (2, 3), (4, 5, 6, 7)]
    assert costs(side_by_side) == pytest.approx([0.253, 0.134, 0.554], abs=5e-4)


def test_spaced_walks_best_first():
    """Gap 4 in an empty block of 8; 2 at least when little is left."""
    sight = sure(0.91, 0.99, 0.92, 0.93, 0.97, 0.94, 0.98, 0.95)
    assert chosen(Spaced(Threshold(0.9), 4), sight) == [1, 6]
    assert chosen(Spaced(Threshold(0.9), 3), sight) == [1, 6]
    few = torch.tensor([[False, True, True, False, False, True, True, False]])
    assert chosen(Spaced(Threshold(0.9), 4), sight._replace(open=few)) == [1, 6]
    assert chosen(Spaced(Threshold(0.9), 1), sight) == [1, 4, 6]


@pytest.mark.parametrize("seed", range(3))
def test_spaced_is_a_maximal_part_of_what_was_chosen(seed):
    """Whatever was left out is too near to something at least as sure."""
    sight, part = ragged(seed), Spaced(Threshold(0.3), 6)
    wished = Threshold(0.3).choose(sight, sight.confidence)
    taken = part.choose(sight, sight.confidence)
    assert not (taken & ~wished).any()
    assert (wished & ~taken).any()
    for row in range(64):
        gap = max(2, int(sight.open[row].sum()) * 6 // int(sight.size[row]))
        kept = taken[row].nonzero()[:, 0].tolist()
        place, sureness = sight.positions[row].tolist(), sight.confidence[row].tolist()
        assert all(abs(place[i] - place[j]) >= gap for i in kept for j in kept if i != j)
        for i in (wished & ~taken)[row].nonzero()[:, 0].tolist():
            near = [j for j in kept if abs(place[i] - place[j]) < gap]
            assert any(sureness[j] >= sureness[i] for j in near)


def test_more_room_never_takes_more_evaluations(as_denoiser):
    """On a table: as the bound grows, fewer steps; at 0 one per token, at infinity one."""
    process = Absorbing(3)
    denoise = as_denoiser(random_tables(4, 3, 5, 0))
    key = Key(rng.rows(0, 0, 200))
    tokens = torch.zeros(200, 5, dtype=torch.long)
    canvas = start(process, tokens, torch.zeros_like(tokens, dtype=torch.bool), key)
    spent = [
        float(
            decode(Composed(order=Entropy(), select=EntropyBound(b)), process, denoise, canvas, key)
            .nfe.float()
            .mean()
        )
        for b in (0.0, 0.3, 0.8, 1.6, math.inf)
    ]
    assert spent == sorted(spent, reverse=True)
    assert (spent[0], spent[-1]) == (5.0, 1.0)
    assert spent[0] > spent[2] > spent[-1]


def filter_of(length, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Filter(*(torch.randn(shape, generator=draw) for shape in [(length, length), length] * 2))


def test_a_filter_of_32_positions_has_2112_weights():
    assert sum(part.numel() for part in filter_of(32)) == 2112


def test_a_filter_is_two_layers_and_a_kink():
    network = Filter(
        torch.tensor([[1.0, 0.0], [0.0, -1.0]]),
        torch.tensor([-0.5, 0.25]),
        torch.tensor([[2.0, 1.0], [0.0, 4.0]]),
        torch.tensor([0.0, -0.1]),
    )
    # relu(0.9 - 0.5, 0.25 - 0.2) = (0.4, 0.05)
    told = network(torch.tensor([[0.9, 0.2], [0.1, 0.8]]))
    assert torch.allclose(told, torch.tensor([[0.85, 0.1], [0.0, -0.1]]))


def test_a_filter_survives_its_file_and_a_new_file_is_read_anew(tmp_path):
    path = tmp_path / "filter.safetensors"
    first, second = filter_of(8), filter_of(4, 1)
    save_filter(path, first)
    assert all(torch.equal(a, b) for a, b in zip(load_filter(path), first, strict=True))
    part = Learned(str(path))
    assert part.filter().block_length == 8
    save_filter(path, second)
    assert part.filter().block_length == 4


def test_a_filter_whose_layers_do_not_fit_is_refused(tmp_path):
    path = tmp_path / "filter.safetensors"
    save_filter(path, filter_of(4)._replace(outer=torch.zeros(3, 4)))
    with pytest.raises(ValueError, match=r"\(3, 4\).*both must map a block to a block"):
        Learned(str(path))


def test_a_filter_needs_blocks_of_its_own_length(tmp_path):
    path = tmp_path / "filter.safetensors"
    save_filter(path, filter_of(8))
    Composed(select=Learned(str(path)), block_length=8)
    for length in (None, 4, 32):
        with pytest.raises(ValueError, match=f"block_length must be 8, got {length}"):
            Composed(select=Learned(str(path)), block_length=length)


def test_learned_writes_what_the_filter_takes_for_final_and_what_is_due(tmp_path):
    """The filter sees written positions too, and 1 where a short block has none."""
    path = tmp_path / "filter.safetensors"
    network, eye = filter_of(6), torch.eye(6)
    save_filter(path, network)
    open_ = torch.tensor([[True, False, True, True]])
    sight = sure(0.9, 0.5, 0.3, 0.7, open_=open_)
    said = network(torch.tensor([[0.9, 0.5, 0.3, 0.7, 1.0, 1.0]])).sigmoid()[0]
    for threshold in (0.1, 0.5, 0.9):
        wanted = {i for i in (0, 2, 3) if said[i] > threshold} | {0}
        assert chosen(Learned(str(path), threshold), sight) == sorted(wanted)
    # A filter that passes what is above 0.6 on, and nothing else.
    save_filter(path, Filter(eye, torch.full((6,), -0.6), eye * 1e4, torch.full((6,), -1.0)))
    assert chosen(Learned(str(path), 0.5), sight) == [0, 3]
    assert chosen(Learned(str(path), 1.0), sight) == [0]


def test_a_filter_sees_the_likeliest_token_and_no_further_than_its_block(tmp_path):
    """Whatever was drawn; positions beyond its block are written when due."""
    path = tmp_path / "filter.safetensors"
    save_filter(
        path, Filter(torch.eye(3), -torch.full((3,), 0.6), torch.eye(3) * 1e4, -torch.ones(3))
    )
    sight = sure(0.3, 0.9, 0.7, 0.8, 0.95)
    other = torch.ones_like(sight.candidate)
    drawn = sight._replace(candidate=other, confidence=1 - sight.confidence)
    assert chosen(Learned(str(path), 0.5), drawn) == [0, 1, 2]
    assert chosen(Learned(str(path), 0.5), sight) == [1, 2, 4]


@pytest.mark.parametrize("seed", range(3))
def test_a_filter_that_is_never_believed_leaves_the_count(tmp_path, seed):
    path = tmp_path / "filter.safetensors"
    save_filter(path, filter_of(12))
    sight = ragged(seed)
    learned = Learned(str(path), 1.0).choose(sight, sight.confidence)
    assert torch.equal(learned, Count().choose(sight, sight.confidence))
