"""Continuations by how often they were seen."""

from collections import Counter

import numpy as np
import pytest
import speculating
import torch

from unison.drafters.automaton import Automaton, Match
from unison.drafters.suffix import Suffix, Suffixes
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation.builders.given import Given
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed


def occurrences(texts, most):
    """Count every string of up to ``most`` tokens, by looking."""
    counts = Counter()
    for text in texts:
        for i in range(len(text)):
            for size in range(1, min(most, len(text) - i) + 1):
                counts[tuple(text[i : i + size])] += 1
    return counts


def state_of(automaton, string):
    state = 0
    for token in string:
        state = automaton.next[state].get(token)
        if state is None:
            return None
    return state


@pytest.mark.parametrize("reach", [1, 3, 24])
def test_an_automaton_counts_every_string_after_every_token(reach):
    rng = np.random.default_rng(reach)
    for _ in range(20):
        text = rng.integers(0, 3, 30).tolist()
        automaton = Automaton(reach)
        for n, token in enumerate(text, 1):
            automaton.read(token)
            if n % 10 == 0:
                counts = occurrences([text[:n]], reach + 1)
                for string, count in counts.items():
                    assert automaton.count[state_of(automaton, string)] == count
        assert state_of(automaton, [*text, 0]) is None
        assert len(automaton.size) <= 2 * len(text)


def test_strings_do_not_cross_from_one_text_to_the_next():
    texts = [[1, 2, 1], [2, 2, 1], [1, 2]]
    automaton = Automaton.of(texts, 4)
    for string, count in occurrences(texts, 4).items():
        assert automaton.count[state_of(automaton, string)] == count
    assert state_of(automaton, [1, 2, 1, 2]) is None


def test_a_match_is_the_longest_suffix_that_occurs():
    rng = np.random.default_rng(4)
    text, other = rng.integers(0, 3, 40).tolist(), rng.integers(0, 4, 60).tolist()
    automaton, counts = Automaton(5), occurrences([text], 5)
    for token in text:
        automaton.read(token)
    match = Match(0, 0)
    for n in range(1, len(other) + 1):
        match = automaton.moved(match, other[n - 1])
        sizes = [
            k for k in range(1, 6) if tuple(other[max(n - k, 0) : n][-k:]) in counts and k <= n
        ]
        assert match.size == max(sizes, default=0)
        assert match.state == state_of(automaton, other[n - match.size : n])


def best_tree(texts, pattern_texts, settings, depth, nodes):
    """By the definition: for every suffix, the likeliest nodes; the tree worth most."""
    counts = occurrences(texts, 60)
    text = pattern_texts
    best = (0.0, {})
    for size in range(settings.shortest, min(len(text), settings.reach) + 1):
        pattern = tuple(text[len(text) - size :])
        seen = counts[pattern] - 1
        if seen <= 0:
            continue
        chances = {}

        def descend(way, chance, pattern=pattern, seen=seen, chances=chances):
            for token in range(5):
                before = seen if not way else counts[pattern + way]
                share = chance * counts[(*pattern, *way, token)] / before
                if share >= settings.least and len(way) < depth:
                    chances[(*way, token)] = share
                    descend((*way, token), share)

        descend((), 1.0)
        room = min(nodes, int(settings.factor * size))
        top = sorted(chances.values(), reverse=True)[:room]
        best = max(best, (sum(top), top), key=lambda pair: pair[0])
    return best


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_the_tree_is_the_one_worth_most_of_all_suffixes(factor):
    rng = np.random.default_rng(7)
    several = 0
    for _ in range(60):
        text = rng.integers(0, 3, 25).tolist()
        settings = Suffix(factor=factor, least=0.2, reach=40)
        row = Suffixes(settings)
        row.extend(text)
        worth, _ = best_tree([text], text, settings, 1, 9)  # one level: no shortened contexts
        ways = row.continuations(1, 9)
        counts = occurrences([text], 60)
        values = []
        for size in range(1, len(text)):
            pattern = tuple(text[-size:])
            if counts[pattern] > 1:
                shares = [counts[(*pattern, *way)] / (counts[pattern] - 1) for way in ways]
                values.append(sum(shares) if len(ways) <= int(factor * size) else 0.0)
        assert max(values) == pytest.approx(worth)
        several += len(ways) > 1
    assert several > 5


def test_frequent_continuations_come_first_and_rare_ones_are_left_out():
    row = Suffixes(Suffix(factor=9.0, least=0.3))
    row.extend([1, 2, 1, 2, 1, 2, 1, 3, 1, 3, 1, 4, 1])
    assert [way[0] for way in row.continuations(1, 9)] == [2, 3]  # 3/6, 2/6 but not 1/6


def test_a_longer_match_drafts_further():
    text = [9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1]
    row = Suffixes(Suffix())
    row.extend(text)
    assert row.continuations(9, 9) == [[2, 3]]
    row.extend([2, 3, 4])
    assert row.continuations(9, 9) == [[5, 6, 7, 8, 9]]
    assert row.continuations(2, 9) == [[5, 6]]
    assert row.continuations(9, 3) == [[5, 6, 7]]


def test_a_repetition_is_continued_beyond_the_end_of_the_text():
    row = Suffixes(Suffix())
    row.extend([1, 2, 3] * 3)
    assert row.continuations(9, 9) == [[1, 2, 3, 1, 2, 3]]


def test_other_texts_are_copied_where_the_own_says_less():
    corpus = Automaton.of([[5, 6, 7, 8, 9, 4]])
    row = Suffixes(Suffix(corpus=corpus))
    row.extend([1, 2, 1, 5, 6, 7])
    assert row.continuations(9, 9) == [[8, 9, 4]]
    alone = Suffixes(Suffix())
    alone.extend([1, 2, 1, 5, 6, 7])
    assert alone.continuations(9, 9) == []


@pytest.mark.parametrize(
    "suffix", [Suffix(), Suffix(3.0, 0.05), Suffix(2.0, corpus=Automaton.of([[0, 1, 2, 2, 1]] * 3))]
)
def test_what_is_written_has_the_law_of_the_target(suffix):
    law = speculating.random_law(3)
    how = Speculation(suffix, Given(), scheduler=Fixed(2))
    assert prove(how, Table(law, 3), [1, 2, 0, 1, 2], 4).error <= 1e-12
    assert prove(how, Table(law, 3), [], 3).error <= 1e-12


def test_a_row_does_not_see_its_batch():
    law = speculating.random_law(5)
    rng = np.random.default_rng(2)
    tokens = torch.tensor(rng.integers(0, 3, (3, 9)))
    length, room = torch.tensor([9, 4, 1]), [12, 20, 7]
    how = Speculation(Suffix(3.0), Given(), scheduler=Fixed(3))
    seed = torch.tensor([5, 6, 7])
    both = speculate(how, Table(law, 3), Ask(Text(tokens, length), room, seed))
    for i in range(3):
        ask = Ask(Text(tokens[i : i + 1], length[i : i + 1]), room[i : i + 1], seed[i : i + 1])
        alone = speculate(how, Table(law, 3), ask)
        assert alone.tokens[0] == both.tokens[i]
        assert alone.rounds[0] == both.rounds[i]


def test_a_target_that_repeats_itself_accepts_every_draft():
    def law(text):
        return np.eye(5)[text[-3] if len(text) > 2 else 0].tolist()

    how = Speculation(Suffix(), Given(), policy=Plain(0.0), scheduler=Fixed(4))
    tokens = torch.tensor([[0, *[1, 2, 3] * 3]])
    spoken = speculate(
        how, Table(law, 5), Ask(Text(tokens, torch.tensor([10])), [25], tokens[:, 0])
    )
    assert spoken.tokens[0] == ([1, 2, 3] * 9)[:25]
    assert max(spoken.rounds[0]) == 5


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"factor": 0.0}, {"least": 0.0}, {"shortest": 9, "reach": 8}):
        with pytest.raises(ValueError, match="must be"):
            Suffix(**wrong)
