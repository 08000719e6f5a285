"""Problems are drawn the same everywhere, and named on one line."""

from pathlib import Path

import pytest
from laws import assert_law

from unison.suites import Dice, SuiteError, alternatives, made, spelt, wilson
from unison.suites.given.gsm8k import Gsm8k
from unison.suites.puzzles.chains import Chains


def test_draws_are_those_of_this_stream_for_ever():
    dice = Dice("copy", 5, 0)
    assert [dice.below(1000) for _ in range(5)] == [782, 664, 337, 766, 503]
    assert Dice("copy", 50).unit() != Dice("copy", 5, 0).unit()


@pytest.mark.law
def test_some_of_the_items_are_every_arrangement_alike():
    draws = [tuple(Dice("law", i).some("abcd", 2)) for i in range(20_000)]
    law = {(a, b): 1 / 12 for a in "abcd" for b in "abcd" if a != b}
    assert_law(draws, law)
    ends = [Dice("ends", i).between(3, 7) for i in range(20_000)]
    assert_law(ends, {n: 0.2 for n in range(3, 8)})


def test_a_line_names_a_thing_with_settings():
    assert spelt("copy") == ("copy", {})
    line = "copy:items=5,share=0.5,free=true,path=a/b.txt"
    assert spelt(line) == ("copy", {"items": 5, "share": 0.5, "free": True, "path": "a/b.txt"})
    assert alternatives("a:x=1|2,y=3|4") == ["a:x=1,y=3", "a:x=1,y=4", "a:x=2,y=3", "a:x=2,y=4"]
    assert alternatives("a") == ["a"]
    assert made(Gsm8k, "g", {"path": "x.jsonl"}).path == Path("x.jsonl")


@pytest.mark.parametrize("line", ["a:", "a:x", "a:x=", "a:=1", "a:x=1,,y=2", "a:x=1,x=2"])
def test_a_line_that_is_none_is_refused(line):
    with pytest.raises(SuiteError, match=r"is no setting|twice"):
        spelt(line)


@pytest.mark.parametrize("value", ["5", 2.5, True])
def test_a_setting_of_another_kind_is_refused(value):
    with pytest.raises(SuiteError, match="terms must be a whole number"):
        made(Chains, "chain", {"terms": value})


def test_wilsons_interval_stays_within_nought_and_one():
    assert wilson(0.0, 0) == (0.0, 1.0)
    for n in (1, 5, 100, 10_000):
        low, high = wilson(float(n), n)
        assert 0 < low < high == 1.0
        assert wilson(0.0, n) == (pytest.approx(0, abs=1e-15), pytest.approx(1 - low))
