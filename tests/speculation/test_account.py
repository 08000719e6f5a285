import math

import pytest
import torch
from speculating import TableDrafter, random_law

from unison.prob import rng
from unison.speculation import Ask, Speculation, Table, Text, speculate
from unison.speculation.account import Account, Share, lengths, survival, token_class
from unison.speculation.builders.chain import Chain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.verifiers.token import Token

P, Q = random_law(1), random_law(2)


def counted(how: Speculation, rows: int = 4, room: int = 30, ends=()) -> tuple[Account, object]:
    tokens = torch.zeros(rows, 1, dtype=torch.int64)
    ask = Ask(Text(tokens, tokens[:, 0] + 1), [room] * rows, rng.rows(0, 0, rows), ends)
    account = Account(lambda token: "ab"[token % 2])
    return account, speculate(how, Table(P, 3), ask, account)


def test_what_is_counted_adds_up():
    how = Speculation(TableDrafter(Q), Chain(sampled=True), Token(), Fixed(3))
    account, spoken = counted(how)
    assert account.written == sum(len(row) for row in spoken.tokens) == 120
    assert account.rounds == sum(spoken.forwards) == sum(account.lengths.values())
    assert account.tokens_per_forward == account.written / account.rounds
    passed = sum(share.passed for share in account.by_depth.values())
    assert passed == sum(n * count for n, count in account.lengths.items())
    assert sum(share.tested for share in account.by_class.values()) == sum(
        share.tested for share in account.by_depth.values()
    )
    assert account.by_depth[2].tested <= account.by_depth[1].passed


def test_a_drafter_that_is_the_target_always_passes_even_where_a_text_ends():
    how = Speculation(TableDrafter(P), Chain(sampled=True), Token(), Fixed(3))
    account, _ = counted(how, ends=(2,))
    assert all(share.rate == 1 for share in account.by_depth.values())


def test_survival_is_the_product_of_the_shares():
    shares = {1: Share(8, 10), 2: Share(3, 6), 3: Share(0, 0)}
    assert survival(shares) == pytest.approx([0.8, 0.4, 0.0])
    assert survival({}) == []
    assert math.isnan(Share(0, 0).rate)


def test_the_best_length_balances_tokens_and_seconds():
    ways = lengths([0.8, 0.4, 0.1], lambda k: 1.0 + 0.1 * k, lambda depth: 0.05 * depth)
    assert [way.tokens for way in ways] == pytest.approx([1, 1.8, 2.2, 2.3])
    assert [way.seconds for way in ways] == pytest.approx([1.1, 1.25, 1.4, 1.55])
    assert max(ways, key=lambda way: way.speed).depth == 2


KINDS = {
    " the": "word",
    "ing": "word part",
    " 42": "number",
    "\n\n": "line break",
    " ": "space",
    "):": "punctuation",
    "_x": "word",
}


@pytest.mark.parametrize(("text", "kind"), KINDS.items())
def test_tokens_have_classes(text: str, kind: str):
    assert token_class(text) == kind
