from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from speculating import TableDrafter, joint, random_law

from unison.prob import rng
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.given import Given
from unison.speculation.choosing import Keyed
from unison.speculation.policies.plain import Plain
from unison.speculation.proof import own_law
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.token import Token

P, Q = random_law(1), random_law(2)


def asked(prompts: list[list[int]], room: int, seeds=None, ends=()) -> Ask:
    length = torch.tensor([1 + len(prompt) for prompt in prompts])
    tokens = torch.zeros(len(prompts), int(length.max()), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, 1 : 1 + len(prompt)] = torch.tensor(prompt)
    seed = rng.rows(0, 0, len(prompts)) if seeds is None else seeds
    return Ask(Text(tokens, length), [room] * len(prompts), seed, ends)


HOWS = {
    "match on likeliest": Speculation(TableDrafter(Q), Chain(), Match(), Fixed(2)),
    "match on drawn": Speculation(TableDrafter(Q), Chain(sampled=True), Match(), Fixed(2)),
    "token on likeliest": Speculation(TableDrafter(Q), Chain(), Token(), Fixed(2)),
    "token on drawn": Speculation(TableDrafter(Q), Chain(sampled=True), Token(), Fixed(2)),
    "plain": Speculation(),
}


@pytest.mark.parametrize("name", HOWS)
def test_the_law_of_the_whole_engine_is_the_targets(name: str):
    proof = prove(HOWS[name], Table(P, 3), [1], 3)
    assert proof.error < 1e-15
    assert proof.forwards < 4 + (name == "plain")


def test_the_policys_own_law_is_the_product_of_the_table():
    law = own_law(Plain(), Table(P, 3), [2], 3)
    truth = joint(P, (2,), 3)
    assert law.keys() == truth.keys()
    assert max(abs(law[text] - truth[text]) for text in truth) < 1e-15


@dataclass(frozen=True)
class Trusting:
    """Accepts every draft: not lossless, and says so."""

    lossless: ClassVar[bool] = False
    takes: ClassVar = Match.takes
    branches: ClassVar[bool] = True

    def verify(self, tree, law, scores, choose):
        verdict = Match().verify(tree, law, scores, choose)
        path = torch.arange(tree.height + 1).expand(len(tree.tokens), -1)
        node = path[:, -1]
        token = choose.write(law.at(node), node, node >= 0)
        return verdict._replace(path=path, accepted=node, token=token)


def test_a_verifier_that_trusts_is_caught_and_the_result_says_so():
    how = Speculation(TableDrafter(Q), Chain(sampled=True), Trusting(), Fixed(1))
    assert prove(how, Table(P, 3), [1], 2).distance > 0.05
    assert not how.lossless
    assert not speculate(how, Table(P, 3), asked([[1]], 2)).lossless
    assert speculate(HOWS["token on drawn"], Table(P, 3), asked([[1]], 2)).lossless


def test_rows_alone_are_rows_of_a_batch():
    prompts = [[1], [], [2, 0, 1, 1], [0, 0]]
    seeds = rng.rows(3, 0, 4)
    for how in HOWS.values():
        together = speculate(how, Table(P, 3), asked(prompts, 9, seeds))
        for row, prompt in enumerate(prompts):
            alone = speculate(how, Table(P, 3), asked([prompt], 9, seeds[row : row + 1]))
            assert alone.tokens[0] == together.tokens[row]
            assert alone.rounds[0] == together.rounds[row]
            assert alone.forwards[0] == together.forwards[row]


def test_matched_text_is_that_of_plain_decoding_seed_by_seed():
    prompts = [[1]] * 40
    plain = speculate(Speculation(), Table(P, 3), asked(prompts, 8)).tokens
    for name in ("match on likeliest", "match on drawn"):
        assert speculate(HOWS[name], Table(P, 3), asked(prompts, 8)).tokens == plain


def test_every_room_is_filled_exactly_and_an_end_ends_a_text():
    prompts = [[1], [2], [0, 1], []]
    for room in (1, 2, 3, 7):
        spoken = speculate(HOWS["token on drawn"], Table(P, 3), asked(prompts, room))
        assert [len(row) for row in spoken.tokens] == [room] * 4
    seeds = rng.rows(5, 0, 4)
    free = speculate(HOWS["match on drawn"], Table(P, 3), asked(prompts, 12, seeds)).tokens
    ended = speculate(HOWS["match on drawn"], Table(P, 3), asked(prompts, 12, seeds, (2,))).tokens
    for whole, cut in zip(free, ended, strict=True):
        stop = whole.index(2) + 1 if 2 in whole else len(whole)
        assert cut == whole[:stop]


def test_no_text_outgrows_the_context():
    spoken = speculate(
        HOWS["match on drawn"], Table(P, 3, max_length=6), asked([[1], [1, 2, 0]], 99)
    )
    assert [len(row) for row in spoken.tokens] == [4, 2]


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="guesses laws of the next token and Given builds"):
        Speculation(TableDrafter(Q), Given())
    how = Speculation(TableDrafter(Q), Chain(), Match())
    wide = Speculation(Copier(), Given(), Match())
    with pytest.raises(ValueError, match="reads chains alone"):
        speculate(wide, Table(P, 3, branches=False), asked([[1]], 3))
    assert speculate(how, Table(P, 3, branches=False), asked([[1]], 3)).forwards[0] <= 4


@dataclass(frozen=True)
class Copier:
    """Offers the same texts again and again."""

    copies: ClassVar[bool] = True
    offers: tuple[tuple[int, ...], ...] = ((1, 2), (1, 0), (2,))

    @property
    def taps(self):
        return ()

    def open(self, target, rows):
        return Copying(self.offers, rows)


class Copying:
    def __init__(self, offers, rows):
        self.offers, self.rows = offers, rows

    def begin(self, text, scores): ...

    def guess(self, tree, frontier):
        raise NotImplementedError

    def texts(self, plan):
        longest = max(len(offer) for offer in self.offers)
        padded = [[*offer, *[-1] * (longest - len(offer))] for offer in self.offers]
        return torch.tensor([padded] * self.rows)

    def finish(self, tree):
        return tree

    def observe(self, outcome): ...

    def keep(self, rows):
        return Copying(self.offers, len(rows))


def test_a_trie_of_copies_is_lossless_and_no_larger_than_planned():
    how = Speculation(Copier(), Given(), Match(), Fixed(2))
    assert prove(how, Table(P, 3), [1], 3).error < 1e-15
    seen = []
    small = Speculation(Copier(), Given(), Match(), Fixed(2, nodes=3))
    speculate(small, Table(P, 3), asked([[1], [0]], 6), seen.append)
    for one in seen:
        live = one.outcome.tree.live.sum(1) - 1
        assert int(live.max()) <= 3
        assert int(one.outcome.tree.depth.max()) <= 2


def test_choices_of_a_row_do_not_depend_on_its_batch_or_the_order_asked():
    seed = rng.rows(1, 0, 3)
    step = torch.tensor([0, 4, 7])
    whole = Keyed(seed, step, step * 2)
    logp = torch.randn(3, 9, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    node, live = torch.tensor([1, 2, 3]), torch.ones(3, dtype=torch.bool)
    for row in range(3):
        one = slice(row, row + 1)
        alone = Keyed(seed[one], step[one], step[one] * 2)
        assert alone.write(logp[one], node[one], live[one]) == whole.write(logp, node, live)[row]
        assert (
            alone.guess(logp[one], node[one], 1, live[one]) == whole.guess(logp, node, 1, live)[row]
        )
        dealt = whole.deal(logp, 4, node, live)[row].tolist()
        assert alone.deal(logp[one], 4, node[one], live[one])[0].tolist() == dealt
        assert len(set(dealt)) == 4
