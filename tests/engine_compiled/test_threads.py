"""How many threads are best is timed, kept for this machine alone, and never used in silence."""

import itertools
import json

import pytest
import torch

from unison.engine import threads
from unison.engine.threads import Machine, Setting, Timed

FOUR = Machine(frozenset(range(4)), {0: frozenset(range(4))})
TWO_NODES = Machine(frozenset(range(8)), {0: frozenset(range(4)), 1: frozenset(range(4, 8))})


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISON_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def same_threads():
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_lists_of_cores_are_read_as_linux_writes_them():
    assert threads.listed("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}
    assert threads.listed("\n") == frozenset()


def test_nodes_are_read_from_the_system_and_hold_only_cores_we_may_use(tmp_path):
    own = min(threads.machine(tmp_path).cores)
    for node, cores in (("node1", "100000-100003"), ("node0", f"{own},100009")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "cpulist").write_text(cores)
    assert threads.machine(tmp_path).nodes == {0: frozenset({own})}


def test_ways_go_up_to_all_cores_and_to_those_of_one_node():
    assert [way.threads for way in threads.settings(FOUR)] == [1, 2, 3, 4]
    assert all(way.node is None for way in threads.settings(FOUR))
    ways = threads.settings(TWO_NODES)
    assert [w.threads for w in ways if w.node is None] == [1, 2, 3, 4, 6, 8]
    assert [w.threads for w in ways if w.node == 0] == [1, 2, 3, 4]
    assert Setting(5) in threads.settings(Machine(frozenset(range(5)), {}))


def test_ways_take_turns_and_the_first_round_is_not_counted(same_threads):
    seen, ticks = [], itertools.count()
    ways = (Setting(1), Setting(2))
    rows = threads.timed(
        lambda: seen.append(torch.get_num_threads()), ways, FOUR, lambda: float(next(ticks)), 3
    )
    assert seen == [1, 2] * 4
    assert [row.seconds for row in rows] == [(1.0,) * 3, (1.0,) * 3]
    assert torch.get_num_threads() == same_threads


def test_another_way_is_chosen_only_if_it_beats_the_usual_one_in_every_round():
    usual = Timed(Setting(4), (1.0, 1.0, 1.0))
    always = Timed(Setting(2), (0.9, 0.8, 0.9))
    mostly = Timed(Setting(1), (0.5, 0.5, 1.1))
    assert threads.best((usual, always), 4) == Setting(2)
    assert threads.best((usual, mostly), 4) == Setting(4)
    assert threads.best((usual, Timed(Setting(8), (1.0, 1.0, 1.0))), 4) == Setting(4)
    with pytest.raises(ValueError, match="3 threads, the usual way here, was not timed"):
        threads.best((usual,), 3)


def test_the_table_is_fastest_first_and_names_the_best():
    rows = (Timed(Setting(1), (0.004, 0.002, 0.003)), Timed(Setting(2, 0), (0.001,) * 3))
    told = threads.table(rows, Setting(2, 0))
    assert [(row["threads"], row["node"], row["best"]) for row in told] == [
        (2, 0, True),
        (1, None, False),
    ]
    assert told[1]["milliseconds"] == 3.0
    assert told[1]["low"] == 2.0
    assert told[0]["times_the_slowest"] == 3.0


def test_what_was_found_is_used_once_kept_and_said(own_cache, same_threads):
    here = threads.machine()._replace(nodes={})
    other = Setting(2 if same_threads == 1 else 1)
    if other.threads > len(here.cores):
        pytest.skip("one core: there is no second way")
    assert threads.recalled({}, here) is None
    threads.keep(other, here)
    assert "unison doctor --threads found best" in threads.recalled({}, here)
    assert torch.get_num_threads() == other.threads
    assert threads.recalled({}, here) is None  # already so


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_who_sets_the_number_of_threads_has_chosen(own_cache, same_threads, name):
    here = threads.machine()._replace(nodes={})
    threads.keep(Setting(len(here.cores)), here)
    assert threads.recalled({name: "1"}, here) is None
    assert torch.get_num_threads() == same_threads


def test_another_machine_and_a_damaged_file_are_measured_anew(own_cache):
    path = threads.keep(Setting(2), FOUR)
    assert threads.kept(FOUR) == Setting(2)
    assert threads.kept(TWO_NODES) is None
    content = json.loads(path.read_text())
    content["setting"] = {"threads": 99, "node": None}
    path.write_text(json.dumps(content))
    assert threads.kept(FOUR) is None
    path.write_text("{")
    assert threads.kept(FOUR) is None
    threads.keep(Setting(2, 7), FOUR)
    assert threads.kept(FOUR) is None  # no such node


def test_staying_on_a_node_binds_every_thread_of_the_process(monkeypatch, tmp_path, same_threads):
    for task in ("11", "12"):
        (tmp_path / task).mkdir()
    bound = []
    monkeypatch.setattr(threads, "TASKS", tmp_path)
    monkeypatch.setattr(
        threads.os,
        "sched_setaffinity",
        lambda *given: bound.append(given),
        raising=False,
    )
    threads.use(Setting(1, 1), TWO_NODES)
    assert sorted(bound) == [(11, TWO_NODES.nodes[1]), (12, TWO_NODES.nodes[1])]
    bound.clear()
    threads.use(Setting(1), TWO_NODES)
    assert {cores for _, cores in bound} == {TWO_NODES.cores}
    bound.clear()
    threads.use(Setting(1), FOUR)
    assert bound == []  # one node: nothing to choose
