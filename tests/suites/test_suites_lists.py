"""Ten list tasks: rules by hand, laws against enumeration and published closed forms."""

import math
from itertools import permutations, product

import numpy as np
import pytest
from laws import assert_count, assert_law

from unison.suites import TASKS, made
from unison.suites.limits.posteriors import Enumerated, Shuffled
from unison.suites.puzzles.names import FIRST_NAMES, SURNAMES
from unison.suites.puzzles.waiting_line import RULES, WaitingLine
from unison.suites.task import Problem, SuiteError

QUEUE = ["Cy Poe", "Al Roe", "Bo Dee"]


def asked(place=1, queue=QUEUE, new="Di Fox"):
    return Problem("p", "", "", facts={"queue": queue, "place": place, "new": new})


def score(rule, answer, **facts):
    return WaitingLine(rule).grade(asked(**facts), answer).score


RIGHT = {
    "copy": ["Cy Poe, Al Roe, Bo Dee"],
    "sort": ["Al Roe, Bo Dee, Cy Poe"],
    "reverse": ["Bo Dee, Al Roe, Cy Poe"],
    "shuffle": [", ".join(p) for p in permutations(QUEUE) if list(p) != QUEUE],
    "replace_index": ["Cy Poe, Di Fox, Bo Dee"],
    "replace_random": [
        "Di Fox, Al Roe, Bo Dee",
        "Cy Poe, Di Fox, Bo Dee",
        "Cy Poe, Al Roe, Di Fox",
    ],
    "insert_index": ["Cy Poe, Di Fox, Al Roe, Bo Dee"],
    "insert_random": [
        "Di Fox, Cy Poe, Al Roe, Bo Dee",
        "Cy Poe, Di Fox, Al Roe, Bo Dee",
        "Cy Poe, Al Roe, Di Fox, Bo Dee",
        "Cy Poe, Al Roe, Bo Dee, Di Fox",
    ],
    "remove_index": ["Cy Poe, Bo Dee"],
    "remove_random": ["Al Roe, Bo Dee", "Cy Poe, Bo Dee", "Cy Poe, Al Roe"],
}


@pytest.mark.parametrize("rule", RULES)
def test_of_all_lists_just_the_right_ones_are_graded_right(rule):
    everyone = [*QUEUE, "Di Fox"]
    lists = [", ".join(names) for size in range(5) for names in product(everyone, repeat=size)]
    right = {text for text in lists if score(rule, f" [{text}]") == 1}
    assert right == set(RIGHT[rule])


@pytest.mark.parametrize(
    "text",
    [
        " [Cy Poe, Al Roe, Bo Dee]",
        "['Cy Poe', 'Al Roe', 'Bo Dee']",
        '["Cy Poe","Al Roe","Bo Dee"]',
        "[ Cy  Poe ,Al Roe,\n Bo Dee ]",
        "The queue [Al Roe] was copied: [Cy Poe, Al Roe, Bo Dee]. Done!",
        "[Cy Poe, Al Roe, Bo Dee]\n\nQueue: [Al Roe, Cy Poe]\nTask: Copy the queue.",
        "[\u201cCy Poe\u201d, \u2018Al Roe\u2019, `Bo Dee`]",
    ],
)
def test_a_list_is_read_whatever_quotes_spaces_and_text_surround_it(text):
    assert score("copy", text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Cy Poe, Al Roe, Bo Dee",
        "[Cy Poe, Al Roe, Bo Dee] no, [Cy Poe, Al Roe]",
        "[cy poe, al roe, bo dee]",
        "[CyPoe, Al Roe, Bo Dee]",
        "[Cy Poe, Al Roe, Bo Dee, ]",
        "\nQueue: [Cy Poe, Al Roe, Bo Dee]",
        "[Cy Poe, Al Roe, Bo Dee",
    ],
)
def test_other_texts_are_wrong_and_say_why(text):
    grade = WaitingLine("copy").grade(asked(), text)
    assert grade.score == 0
    assert grade.why


def test_equal_lists_are_read_as_one_vote():
    task = WaitingLine("copy")
    votes = {task.grade(asked(), t).read for t in ("['Cy Poe',  'Al Roe']", "[Cy Poe,Al Roe]")}
    assert votes == {"Cy Poe, Al Roe"}


def test_a_name_that_waits_twice_must_come_out_twice():
    twice = ["Cy Poe", "Cy Poe", "Bo Dee"]
    assert score("shuffle", "[Cy Poe, Bo Dee, Cy Poe]", queue=twice) == 1
    assert score("shuffle", "[Bo Dee, Bo Dee, Cy Poe]", queue=twice) == 0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("items", [3, 15, 100])
def test_names_in_a_queue_are_all_different(rule, items):
    for problem in WaitingLine(rule, items).problems(3, 0):
        names = [*problem.facts["queue"], problem.facts["new"]]
        firsts, lasts = zip(*(name.split() for name in names), strict=True)
        assert len(set(firsts)) == len(set(lasts)) == len(names) == items + 1
        assert set(firsts) <= set(FIRST_NAMES)
        assert set(lasts) <= set(SURNAMES)


def test_first_names_alone_are_a_setting():
    problem = WaitingLine("copy", surnames=False).problems(1, 0)[0]
    assert all(name in FIRST_NAMES for name in problem.facts["queue"])


@pytest.mark.parametrize("rule", RULES)
def test_examples_do_not_change_the_question(rule):
    none, two = (WaitingLine(rule, shots=shots).problems(5, 1) for shots in (0, 2))
    for bare, shown in zip(none, two, strict=True):
        assert bare.answer == shown.answer
        assert shown.prompt.endswith(bare.prompt.partition("\n\n")[2])
        assert shown.prompt.count("New queue:") == 3


@pytest.mark.parametrize("rule", RULES)
def test_examples_are_right_themselves(rule):
    for problem in WaitingLine(rule, shots=2).problems(20, 3):
        for shown in problem.prompt.split("\n\n")[1:-1]:
            queue = shown.split("\n")[0].removeprefix("Queue: [").removesuffix("]").split(", ")
            words = [word.strip(".") for word in shown.split()]
            numbers = [int(word) for word in words if word.isdigit()] or [1]
            told = shown.split("\n")[1]
            new = told.partition("with ")[2].rstrip(".") or " ".join(told.split()[2:4]).rstrip(",")
            answer = shown.split("New queue:")[1]
            assert score(rule, answer, queue=queue, place=numbers[0] - 1, new=new) == 1, shown


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.endswith("random")])
def test_reference_answers_fall_on_every_place_equally_often(rule):
    task, ends = WaitingLine(rule, 3, 0), 1 if rule.startswith("insert") else 0
    places = [problem.facts["place"] for problem in task.problems(1000, 0)]
    assert_law(places, {place: 1 / (3 + ends) for place in range(3 + ends)})


def test_reference_shuffles_fall_on_every_other_order_equally_often():
    orders = []
    for problem in WaitingLine("shuffle", 3, 0).problems(1000, 0):
        names = problem.answer.strip(" []").split(", ")
        orders.append(tuple(problem.facts["queue"].index(name) for name in names))
    assert_law(orders, {p: 1 / 5 for p in permutations(range(3)) if p != (0, 1, 2)})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rule": "coppy"}, "did you mean 'copy'"),
        ({"rule": "copy", "items": 2}, "3 to 100, got 2"),
        ({"rule": "copy", "items": 101}, "got 101"),
        ({"rule": "copy", "shots": -1}, "at least 0, got -1"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        WaitingLine(**settings)


def test_the_rule_is_no_setting_but_the_others_are():
    assert made(TASKS["copy"], "copy", {"items": 7}) == WaitingLine("copy", 7)
    with pytest.raises(SuiteError, match="no setting 'rule'; known: items, shots, surnames"):
        made(TASKS["copy"], "copy:rule=sort", {"rule": "sort"})


# --- laws ---------------------------------------------------------------------------------------


def by_hand(rule, n):
    """Return every right answer about the queue 0 .. n-1, who comes being n."""
    queue = tuple(range(n))
    if rule == "shuffle":
        return {p for p in permutations(queue) if p != queue}
    if rule == "replace_random":
        return {tuple(n if at == i else at for at in queue) for i in queue}
    if rule == "insert_random":
        return {(*queue[:i], n, *queue[i:]) for i in range(n + 1)}
    if rule == "remove_random":
        return {tuple(at for at in queue if at != i) for i in queue}
    return None


FREE = ["shuffle", "replace_random", "insert_random", "remove_random"]


def share(answers, items, position, size):
    """Return by counting how often each item stands at a position of the answers that agree."""
    agreeing = [a for a in answers if all(i in (-1, b) for i, b in zip(items, a, strict=True))]
    counts = np.bincount([a[position] for a in agreeing], minlength=size)
    return counts / len(agreeing)


@pytest.mark.parametrize("rule", FREE)
@pytest.mark.parametrize("n", [3, 4])
def test_beliefs_are_shares_of_the_answers_that_agree(rule, n):
    law, answers = WaitingLine(rule, n).law(), by_hand(rule, n)
    shown = list(product([True, False], repeat=law.length))
    states = {
        tuple(item if seen else -1 for item, seen in zip(answer, mask, strict=True))
        for answer in answers
        for mask in shown
    }
    for items, found in zip(states, law.belief(np.array(list(states))), strict=True):
        for position in range(law.length):
            expected = share(answers, items, position, law.size)
            np.testing.assert_allclose(found[position], expected, atol=1e-12)


@pytest.mark.parametrize("rule", FREE)
def test_beliefs_are_laws_that_keep_what_is_written_even_where_it_is_wrong(rule):
    law = WaitingLine(rule, 3).law()
    states = np.array(list(product(range(-1, law.size), repeat=law.length)))
    belief = law.belief(states)
    assert (belief >= 0).all()
    np.testing.assert_allclose(belief.sum(-1), 1, atol=1e-12)
    rows, places = np.nonzero(states >= 0)
    assert (belief[rows, places, states[rows, places]] == 1).all()


@pytest.mark.parametrize("rule", FREE)
def test_just_the_right_answers_are_right_in_law(rule):
    law = WaitingLine(rule, 4).law()
    every = np.array(list(product(range(law.size), repeat=law.length)))
    assert {tuple(row) for row in every[law.right(every)].tolist()} == by_hand(rule, 4)


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ("copy", [0, 1, 2, 3]),
        ("sort", [0, 1, 2, 3]),
        ("reverse", [3, 2, 1, 0]),
        ("replace_index", [0, 1, 4, 3]),
        ("insert_index", [0, 1, 4, 2, 3]),
        ("remove_index", [0, 1, 3]),
    ],
)
def test_a_task_with_one_answer_is_certain_of_it_from_the_start(rule, answer):
    law = WaitingLine(rule, 4).law()
    belief = law.belief(np.full((1, law.length), -1))[0]
    assert belief.argmax(-1).tolist() == answer
    assert (belief.max(-1) == 1).all()


def drawn(law, count, seed):
    """Draw answers one item at a time, places in random order."""
    random = np.random.default_rng(seed)
    items = np.full((count, law.length), -1)
    for position in random.permutation(law.length):
        chances = law.belief(items)[:, position].cumsum(-1)
        items[:, position] = (random.random((count, 1)) >= chances[:, :-1]).sum(-1)
    return items


@pytest.mark.parametrize("rule", FREE)
@pytest.mark.parametrize("seed", [0, 1])
def test_answers_drawn_one_by_one_are_equally_likely(rule, seed):
    answers = by_hand(rule, 4)
    samples = [tuple(row) for row in drawn(WaitingLine(rule, 4).law(), 5000, seed).tolist()]
    assert_law(samples, dict.fromkeys(answers, 1 / len(answers)))


@pytest.mark.parametrize(("n", "count"), [(15, 200), (200, 2)])
def test_long_shuffles_drawn_one_by_one_are_right(n, count):
    law = Shuffled(n)
    assert law.right(drawn(law, count, 0)).all()


def test_a_shuffle_avoids_the_given_order_just_as_often_as_it_must():
    """Last but one of n in place: the rest must turn, which one order in two would not."""
    law = Shuffled(5)
    still = law.belief(np.array([[0, 1, 2, -1, -1]]))[0]
    np.testing.assert_array_equal(still[3:], np.eye(5)[[4, 3]])
    one = law.belief(np.array([[0, 1, -1, -1, -1]]))[0]
    np.testing.assert_allclose(one[2], [0, 0, 1 / 5, 2 / 5, 2 / 5])
    moved = law.belief(np.array([[1, 0, -1, -1, -1]]))[0]
    np.testing.assert_allclose(moved[2], [0, 0, 1 / 3, 1 / 3, 1 / 3])


def correlation(law, answers):
    """Return sum H(y_i) - H(y) in bits, from the beliefs before anything is written."""
    belief = law.belief(np.full((1, law.length), -1))[0]
    return -(belief * np.log2(np.where(belief > 0, belief, 1))).sum() - math.log2(answers)


@pytest.mark.parametrize(("n", "bits"), [(5, 1.2877), (100, 1.4355)])
def test_replacing_one_customer_correlates_by_the_published_bits(n, bits):
    assert correlation(WaitingLine("replace_random", n).law(), n) == pytest.approx(bits, abs=5e-5)


@pytest.mark.parametrize(("n", "bits"), [(5, 4.70), (10, 11.43)])
def test_shuffling_correlates_by_the_published_bits(n, bits):
    """ParallelBench counts the given order too."""
    law = Shuffled(n, changed=False)
    found = correlation(law, math.factorial(n))
    assert found == pytest.approx(n * math.log2(n) - math.log2(math.factorial(n)), abs=1e-9)
    assert found == pytest.approx(bits, abs=5e-3)


def test_where_the_given_order_is_right_too_it_is_as_likely_as_any():
    law = Shuffled(3, changed=False)
    belief = law.belief(np.array([[0, 1, -1], [0, -1, -1]]))
    assert belief[0, 2].tolist() == [0, 0, 1]
    assert belief[1, 1:].tolist() == [[0, 0.5, 0.5]] * 2
    assert law.right(np.array([[0, 1, 2], [2, 1, 0], [0, 0, 2]])).tolist() == [True, True, False]


def test_shuffling_to_another_order_correlates_a_little_more():
    """By hand at n = 3: 5 orders, at each place 1, 2, 2 of 5 for the items."""
    entropy = -(1 / 5 * math.log2(1 / 5) + 4 / 5 * math.log2(2 / 5))
    assert correlation(Shuffled(3), 5) == pytest.approx(3 * entropy - math.log2(5))


@pytest.mark.parametrize("rule", ["copy", "sort", "reverse", "replace_index", "insert_index"])
def test_one_answer_correlates_not_at_all(rule):
    assert correlation(WaitingLine(rule, 6).law(), 1) == 0


def at_once(law, count, seed):
    """Return how many of the answers are right whose items are all drawn from the first belief."""
    random = np.random.default_rng(seed)
    chances = law.belief(np.full((1, law.length), -1))[0].cumsum(-1)
    draws = random.random((count, law.length, 1))
    return int(law.right((draws >= chances[None, :, :-1]).sum(-1)).sum())


def test_writing_at_once_is_right_as_often_as_the_closed_forms_say():
    count = 40_000
    replaced = WaitingLine("replace_random", 5).law()
    assert_count(at_once(replaced, count, 0), count, (1 - 1 / 5) ** 4)
    assert_count(at_once(Shuffled(4, changed=False), count, 1), count, 24 / 4**4)


def test_a_list_of_answers_must_hold_each_just_once():
    with pytest.raises(ValueError, match="twice"):
        Enumerated(np.array([[0, 1], [0, 1]]))
    with pytest.raises(ValueError, match="at least one answer"):
        Enumerated(np.zeros((0, 2), dtype=int))


def test_a_single_item_has_no_other_order():
    with pytest.raises(ValueError, match="no other order of 1"):
        Shuffled(1)
    assert Shuffled(1, changed=False).belief(np.array([[-1]])).tolist() == [[[1.0]]]
