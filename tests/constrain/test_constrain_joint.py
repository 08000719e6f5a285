"""A belief conditioned on a language: exact marginals, likeliest texts, draws that never fail."""

import numpy as np
import pytest
import torch
from joint_cases import Brackets, Table, case, stretch
from laws import assert_law
from oracle import constrained_law as oracle

from unison.constrain.joint import Conditioner, Stretch
from unison.constrain.language import ConstraintError
from unison.constrain.tokens import TokenMachine
from unison.constrain.vocabulary import vocabulary

WIDE = 10_000
KINDS = {"plain": (False, False), "blurred": (True, False), "lazy": (False, True)}
MIXED = {**KINDS, "blurred and lazy": (True, True)}
each_kind = pytest.mark.parametrize("kind", MIXED)


def cases(kind, count, salt=0):
    for seed in range(count):
        random = np.random.default_rng([seed, salt])
        yield random, *case(random, *MIXED[kind])


def brackets(words=(b"a", b"b", b"ab")):
    words = vocabulary([*words, None], [len(words)], "brackets")
    return TokenMachine(Brackets(), words)


def one_hole(size):
    return Stretch(np.full(size, -1), np.arange(size), np.zeros(size, np.int64))


def equals_enumeration(of, tokens):
    """Whether the law says it is exact; if it does, it is."""
    law = Conditioner(tokens, WIDE).law(stretch(of), torch.from_numpy(of.logp))
    weights = oracle.law(of)
    total = oracle.log_sum(list(weights.values()))
    best = tuple(law.likeliest().tolist())
    assert law.log_total <= total + 1e-9
    assert weights[best] > -np.inf
    if law.exact:
        assert law.log_total == pytest.approx(total, abs=1e-9)
        assert weights[best] == pytest.approx(max(weights.values()), abs=1e-9)
        np.testing.assert_allclose(law.marginals(), oracle.marginals(of), rtol=1e-11, atol=1e-9)
    return law.exact


class TestExactness:
    @each_kind
    def test_mass_marginals_and_likeliest_text_equal_enumeration(self, kind):
        exact = [equals_enumeration(of, tokens) for _, of, tokens in cases(kind, 50)]
        assert all(exact)

    @pytest.mark.slow
    @each_kind
    def test_they_do_so_in_ten_thousand_cases(self, kind):
        exact = [equals_enumeration(of, tokens) for _, of, tokens in cases(kind, 2_600, salt=1)]
        # How far the end is at most, known of states found on the way, may be too far.
        assert all(exact) or ("lazy" in kind and sum(exact) > 2_500)

    def test_a_float32_belief_gets_float32_marginals_as_good_as_float32(self):
        for _, of, tokens in cases("plain", 40, salt=2):
            belief = torch.from_numpy(of.logp).float()
            found = Conditioner(tokens).law(stretch(of), belief).marginals()
            wanted = oracle.marginals(of._replace(logp=belief.double().numpy()))
            assert found.dtype == torch.float32
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-5)

    def test_what_hardly_ever_happens_keeps_its_odds_when_nothing_else_can(self):
        of, tokens = case(np.random.default_rng(5))
        low = of._replace(logp=np.array(of.logp, float) - 10_000)
        high = Conditioner(tokens).law(stretch(of), torch.from_numpy(of.logp))
        found = Conditioner(tokens).law(stretch(low), torch.from_numpy(low.logp))
        reads = sum(column >= 0 for column in of.column)
        assert found.log_total == pytest.approx(high.log_total - 10_000 * reads, abs=1e-7)
        read = [column for column in of.column if column >= 0]
        np.testing.assert_allclose(found.marginals()[read], high.marginals()[read], atol=1e-7)

    def test_one_slot_far_less_likely_than_another_loses_no_digits(self):
        # "ab" needs a in the first slot and b in the second; the belief all but rules both out.
        to = np.array([[1, -1, -1], [-1, 2, -1], [-1, -1, -1]])
        machine = Table(to, np.array([False, False, True]), lazy=False)
        tokens = TokenMachine(machine, vocabulary([b"a", b"a", b"b", None], [3], "toy"))
        belief = torch.tensor([[-5000.0, -5001.0, 0.0, -1.0], [0.0, 0.0, -7000.0, 0.0]])
        law = Conditioner(tokens).law(one_hole(2), belief)
        odds = torch.tensor([0.0, -1.0]).log_softmax(0)
        assert law.marginals()[0, :2].tolist() == pytest.approx(odds.tolist(), abs=1e-6)
        assert law.log_total == pytest.approx(-12_000 + np.log1p(np.exp(-1)), abs=1e-9)

    def test_rows_that_no_slot_reads_come_back_as_they_were(self):
        tokens = brackets()
        belief = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
        slots = Stretch(np.array([-1, -1]), np.array([3, 1]), np.array([0, 0]))
        found = Conditioner(tokens, WIDE).law(slots, belief).marginals()
        assert torch.equal(found[[0, 2]], belief[[0, 2]])
        assert found[[1, 3]].logsumexp(1).tolist() == pytest.approx([0, 0], abs=1e-6)


class TestManyTokens:
    """Sets of hundreds of tokens, as vocabularies have them."""

    SIZE = 1_000

    def setup_method(self):
        # One token of the even kind and one of the odd, in either order.
        to = np.array([[1, 2, -1], [-1, 3, -1], [3, -1, -1], [-1, -1, -1]])
        machine = Table(to, np.array([False, False, False, True]), lazy=False)
        spelt = [b"ab"[i % 2 : i % 2 + 1] for i in range(self.SIZE)]
        self.tokens = TokenMachine(machine, vocabulary([*spelt, None], [self.SIZE], "many"))
        noise = torch.Generator().manual_seed(1)
        self.belief = torch.randn(2, self.SIZE + 1, generator=noise).mul(2).log_softmax(1)
        p = self.belief.double().exp().numpy()[:, : self.SIZE]
        pairs = np.outer(p[0], p[1])
        even = np.arange(self.SIZE) % 2 == 0
        pairs[np.equal.outer(even, even)] = 0
        self.total, self.pairs = pairs.sum(), pairs / pairs.sum()
        self.law = Conditioner(self.tokens).law(one_hole(2), self.belief)

    def test_marginals_are_those_of_all_pairs(self):
        assert self.law.log_total == pytest.approx(np.log(self.total), abs=1e-12)
        found = self.law.marginals().exp().numpy()
        np.testing.assert_allclose(found[0, :-1], self.pairs.sum(1), rtol=1e-5)
        np.testing.assert_allclose(found[1, :-1], self.pairs.sum(0), rtol=1e-5)

    def test_the_likeliest_pair_is_the_likeliest(self):
        best = np.unravel_index(self.pairs.argmax(), self.pairs.shape)
        assert self.law.likeliest().tolist() == list(best)

    def test_draws_follow_the_law_of_pairs(self):
        u = np.random.default_rng(3).random((1_200, 2, 2))
        drawn = [self.law.draw(one) for one in u]
        for slot in (0, 1):
            law = dict(enumerate(self.pairs.sum(1 - slot)))
            assert_law([int(text[slot]) for text in drawn], law)

    def test_a_draw_is_a_function_of_its_uniforms(self):
        u = np.random.default_rng(4).random((2, 2))
        again = Conditioner(self.tokens).law(one_hole(2), self.belief)
        assert self.law.draw(u).tolist() == again.draw(torch.from_numpy(u)).tolist()


def run(of, tokens, random, width):
    """Commit some slots of a draw at a time, as a decoder would; return all tokens."""
    conditioner, token = Conditioner(tokens, width), np.array(of.token)
    while (token < 0).any():
        left = np.flatnonzero(token < 0)
        # Beliefs change from step to step, and speak of some slots only.
        read = left[: random.integers(1, len(left) + 1)]
        column = np.full(len(token), -1)
        column[read] = np.arange(len(read))
        belief = np.log(random.dirichlet(np.ones(len(of.spellings)), len(read)))
        law = conditioner.law(Stretch(token, column, of.hole), torch.from_numpy(belief))
        drawn = law.draw(random.random((len(token), 2)))
        if random.random() < 0.3:
            drawn = law.likeliest()
        assert (drawn[token >= 0] == token[token >= 0]).all()
        commit = read[random.random(len(read)) < 0.6]
        token = token.copy()
        token[commit] = drawn[commit]
    return tuple(token.tolist())


class TestRuns:
    @each_kind
    @pytest.mark.parametrize("width", [1, 3])
    def test_committing_any_part_of_a_draw_never_leads_to_a_dead_end(self, kind, width):
        for random, of, tokens in cases(kind, 20, salt=3):
            blank = of._replace(column=np.full(len(of.token), -1))
            done = run(blank, tokens, random, width)
            assert list(oracle.texts(blank._replace(token=done))) == [done]

    def test_a_narrow_law_draws_only_possible_texts(self):
        narrow = 0
        for random, of, tokens in cases("lazy", 60, salt=4):
            law = Conditioner(tokens, 1).law(stretch(of), torch.from_numpy(of.logp))
            narrow += not law.exact
            weights = oracle.law(of)
            for text in [law.draw(random.random((len(of.token), 2))), law.likeliest()]:
                assert weights[tuple(text.tolist())] > -np.inf
            assert law.log_total <= oracle.log_sum(list(weights.values())) + 1e-9
        assert narrow > 10

    def test_a_narrow_law_keeps_the_text_that_was_drawn_last(self):
        wide = 0
        for random, of, tokens in cases("lazy", 60, salt=5):
            belief = torch.from_numpy(of.logp)
            memory = Conditioner(tokens, WIDE)
            drawn = memory.law(stretch(of), belief).draw(random.random((len(of.token), 2)))
            memory.width = 1
            law = memory.law(stretch(of), belief)
            wide += law.exact
            found = law.marginals().numpy()
            read = np.flatnonzero(np.asarray(of.column) >= 0)
            assert (found[np.asarray(of.column)[read], drawn[read]] > -np.inf).all()
        assert wide < 55

    def test_a_law_whose_states_are_all_kept_is_exact_and_says_so(self):
        tokens, belief = brackets(), torch.zeros(6, 4)
        assert Conditioner(tokens, WIDE).law(one_hole(6), belief).exact
        assert not Conditioner(tokens, 1).law(one_hole(6), belief).exact

    def test_draws_at_the_ends_of_the_unit_interval_are_possible_texts(self):
        for _, of, tokens in cases("plain", 40, salt=6):
            law, weights = (
                Conditioner(tokens).law(stretch(of), torch.tensor(of.logp)),
                oracle.law(of),
            )
            for u in (0.0, 2.0**-54, 1 - 2.0**-53):
                text = law.draw(np.full((len(of.token), 2), u))
                assert weights[tuple(text.tolist())] > -np.inf


class TestRefusals:
    def test_a_stretch_too_short_for_any_text_is_an_error(self):
        to = np.array([[1, -1, -1], [2, -1, -1], [-1, -1, -1]])
        machine = Table(to, np.array([False, False, True]), lazy=False)
        tokens = TokenMachine(machine, vocabulary([b"a", None], [1], "toy"))
        with pytest.raises(ConstraintError, match="fits these 1 slots, 0 of which hold a token"):
            Conditioner(tokens).law(one_hole(1), torch.zeros(1, 2))

    @pytest.mark.parametrize("width", [1, WIDE])
    def test_given_text_that_cannot_be_completed_is_an_error(self, width):
        slots = Stretch(np.array([-1, -1, 0]), np.array([0, 1, -1]), np.array([0, 0, -1]))
        with pytest.raises(ConstraintError, match="no text of the language"):
            Conditioner(brackets(), width).law(slots, torch.zeros(2, 4))

    def test_a_belief_that_rules_out_every_text_is_an_error(self):
        belief = torch.full((2, 4), -torch.inf)
        with pytest.raises(ConstraintError, match="the belief allows"):
            Conditioner(brackets()).law(one_hole(2), belief)

    def test_a_given_token_that_ends_a_text_is_an_error(self):
        slots = Stretch(np.array([3, -1]), np.array([-1, 0]), np.array([-1, 0]))
        with pytest.raises(ConstraintError, match="slot 0 of a constrained stretch is 3"):
            Conditioner(brackets()).law(slots, torch.zeros(1, 4))

    @pytest.mark.parametrize(
        ("token", "column", "hole", "message"),
        [
            ([1, -1], [0, 1], [0, 0], "cannot also be read"),
            ([-1, -1], [0, 1], [-1, 0], "must hold a token"),
            ([-1, -1], [0, 0], [0, 0], "two slots read one row"),
        ],
    )
    def test_slots_that_contradict_themselves_are_an_error(self, token, column, hole, message):
        with pytest.raises(ValueError, match=message):
            Stretch(np.array(token), np.array(column), np.array(hole))

    def test_a_row_the_belief_does_not_have_is_an_error(self):
        with pytest.raises(ValueError, match="reads row 1 of a belief of 1 rows"):
            Conditioner(brackets()).law(one_hole(2), torch.zeros(1, 4))

    def test_a_width_of_nothing_is_an_error(self):
        with pytest.raises(ValueError, match="must be at least 1"):
            Conditioner(brackets(), 0)
