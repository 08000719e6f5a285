"""The guard of the benchmarks flags planted changes, and noise at no more than the stated rate."""

import itertools
import json
import math
import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks import guard, records, suite
from benchmarks.records import Measured, Record, RecordError

FLOOR = math.log(1.05)
MACHINE = {"cpu": "A chip", "gpu": None, "threads": 1, "torch": "2.13"}


def measured(rounds, name="ours / theirs", better="lower", scale="log", floor=FLOOR):
    values = sorted(map(float, rounds))
    middle = float(np.median(values))
    return Measured(name, middle, values[0], values[-1], len(values), better, scale, floor)


def record(*ratios, name="bench", machine=MACHINE, **settings):
    return Record(name, {"dtype": "float32"} | settings, machine, ratios)


def verdicts(old, new, across=False):
    rows = guard.comparison({old.name: old}, {new.name: new}, across)
    return {row.name: row.verdict for row in rows}


def saved(folder, *some):
    folder.mkdir(parents=True, exist_ok=True)
    for one in some:
        (folder / f"{one.name}.json").write_text(records.text(one))
    return folder


@pytest.mark.parametrize(("old", "new"), [(2, 2), (3, 4), (5, 5), (6, 3)])
def test_the_chance_is_the_share_of_all_orders_of_the_rounds(old, new):
    """Every way in which the ranks of all rounds may fall to the two runs is as likely."""
    total = old + new
    ways = list(itertools.combinations(range(1, total + 1), new))
    worse = 0
    for ranks in ways:
        others = [rank for rank in range(1, total + 1) if rank not in ranks]
        pair = (measured(some, floor=0.0) for some in (others, ranks))
        worse += guard.judged(*pair) == "worse"
    said = guard.chance(measured([1.0] * old), measured([1.0] * new))
    assert worse / len(ways) == pytest.approx(said, rel=1e-12)


@pytest.mark.parametrize("draw", ["normal", "heavy", "one-sided"])
def test_noise_is_flagged_no_more_often_than_stated(draw):
    """Seeded; the bound on the count fails a right guard once in a million."""
    random, pairs, rounds = np.random.default_rng(5), 4000, 4
    noise = {
        "normal": lambda: random.normal(size=rounds),
        "heavy": lambda: random.standard_t(2, size=rounds),
        "one-sided": lambda: random.exponential(size=rounds),
    }[draw]
    found = [
        guard.judged(*(measured(np.exp(0.2 * noise()), floor=0.0) for _ in range(2)))
        for _ in range(pairs)
    ]
    stated = 1 / math.comb(2 * rounds, rounds)
    most = stats.binom.isf(1e-6 / 6, pairs, stated)
    least = stats.binom.ppf(1e-6 / 6, pairs, stated)
    for verdict in ("worse", "better"):
        assert least <= found.count(verdict) <= most


def test_what_is_peculiar_to_a_run_is_not_flagged_below_the_floor():
    """Runs 4 % apart, rounds scattered by 2 %: still at most one in 3432 each way."""
    random, pairs, rounds = np.random.default_rng(6), 4000, 7
    flagged = 0
    for _ in range(pairs):
        runs = random.uniform(-0.5, 0.5, size=2) * math.log(1.04)
        pair = (measured(np.exp(run + 0.02 * random.normal(size=rounds))) for run in runs)
        flagged += guard.judged(*pair) == "worse"
    assert flagged <= stats.binom.isf(1e-6, pairs, 1 / math.comb(14, 7))


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("scale", ["log", "linear"])
def test_a_planted_change_is_flagged_whichever_way_is_better(better, scale):
    """20 % (or 20 points) with noise of 2 %: ranges of 7 rounds reach 15 % only beyond 3 sigma.

    Noise is cut at 3 sigma, so the test cannot fail by chance: 20 % - 2 x 6 % > 5 %.
    """
    random = np.random.default_rng(7)

    def rounds(shift):
        noise = np.clip(0.02 * random.normal(size=7), -0.06, 0.06)
        return np.exp(noise + shift) if scale == "log" else noise + shift

    for _ in range(50):
        base, higher = (
            measured(rounds(shift), better=better, scale=scale) for shift in (0.0, 0.20)
        )
        up, down = ("better", "worse") if better == "higher" else ("worse", "better")
        assert guard.judged(base, higher) == up
        assert guard.judged(higher, base) == down
        assert guard.judged(base, base) == "same"


def test_a_change_within_the_floor_is_none_however_quiet_the_rounds():
    quiet = measured([1.0] * 7)
    assert guard.judged(quiet, measured([1.049] * 7)) == "same"
    assert guard.judged(quiet, measured([1.051] * 7)) == "worse"


def test_the_wider_floor_of_the_two_counts():
    quiet, coarse = measured([1.0] * 7), measured([1.2] * 7, floor=math.log(1.3))
    assert guard.judged(quiet, coarse) == guard.judged(coarse, quiet) == "same"


def test_single_rounds_are_judged_by_the_floor_and_said_to_be():
    old, new = measured([1.0]), measured([1.2])
    assert guard.chance(old, new) == 1.0
    rows = guard.comparison({"bench": record(old)}, {"bench": record(new)})
    assert [row.verdict for row in rows] == ["worse"]
    assert "1 of a single round, judged by their floor" in guard.table(rows)


def test_shares_around_zero_are_compared_by_differences():
    share = dict(scale="linear", floor=0.01)
    old = measured([-0.01, 0.0, 0.01], **share)
    assert guard.judged(old, measured([0.015, 0.02, 0.03], **share)) == "same"
    assert guard.judged(old, measured([0.025, 0.03, 0.04], **share)) == "worse"


def test_new_and_missing_ratios_are_told():
    kept, gone, come = (measured([1.0] * 5, name=name) for name in ("kept", "gone", "come"))
    assert verdicts(record(kept, gone), record(kept, come)) == {
        "kept": "same",
        "gone": "missing",
        "come": "new",
    }
    rows = guard.comparison({"a": record(kept, name="a")}, {"b": record(come, name="b")})
    assert {(row.benchmark, row.verdict) for row in rows} == {("a", "missing"), ("b", "new")}


@pytest.mark.parametrize(
    "changed",
    [
        {"machine": MACHINE | {"cpu": "Another chip"}},
        {"machine": MACHINE | {"threads": 2}},
        {"machine": MACHINE | {"torch": "2.14"}},
        {"dtype": "bfloat16"},
        {"command": "bench --steps 3"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_other_machines_and_settings_are_said_and_not_compared(changed):
    old, new = record(measured([1.0] * 5)), record(measured([2.0] * 5), **changed)
    assert set(verdicts(old, new).values()) == {"not compared"}
    assert " was " in guard.table(guard.comparison({"bench": old}, {"bench": new}))
    assert set(verdicts(old, new, across=True).values()) == {"worse"}


def test_facts_that_do_not_decide_a_ratio_do_not_keep_it_from_being_compared():
    busy = MACHINE | {"load": [9.0, 9.0, 9.0]}
    assert verdicts(record(measured([1.0] * 5)), record(measured([1.0] * 5), machine=busy)) == {
        "ours / theirs": "same"
    }


def test_a_ratio_that_is_read_another_way_is_not_compared():
    old, new = measured([1.0] * 5), measured([2.0] * 5, better="higher")
    assert set(verdicts(record(old), record(new), across=True).values()) == {"not compared"}


def test_worse_is_an_exit_status_and_stands_first(tmp_path, capsys):
    fine, slow = measured([1.0] * 7, name="fine"), measured([1.0] * 7, name="slow")
    old = saved(tmp_path / "old", record(fine, slow))
    new = saved(tmp_path / "new", record(fine, replace(slow, median=1.2, low=1.2, high=1.2)))
    assert guard.main([str(old), str(new)]) == 1
    assert capsys.readouterr().out.splitlines()[1].startswith("worse        bench: slow")
    assert guard.main([str(new), str(old)]) == 0
    assert guard.main([str(old), str(old)]) == 0
    assert guard.main([str(old / "bench.json"), str(new / "bench.json")]) == 1


def test_records_come_back_as_they_were_written():
    one = record(measured([1.0, 2.0]), measured([-1.0, 0.0], name="share", scale="linear"))
    assert records.parsed(records.text(one), "here") == one


def broken(change):
    document = json.loads(records.text(record(measured([1.0, 1.5, 2.0]))))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "is no JSON"),
        ('{"format": 1, "name"', "is no JSON"),
        ("[]", "is no record of a benchmark"),
        ('{"format": 1}', "is no record of a benchmark"),
        (broken(lambda d: d.update(format=9)), "format 9 is newer"),
        (broken(lambda d: d.update(machine="fast")), "is no record of a benchmark"),
        (broken(lambda d: d["ratios"][0].pop("low")), "is no record of a benchmark"),
        (broken(lambda d: d["ratios"][0].update(low=float("nan"))), "must be finite"),
        (broken(lambda d: d["ratios"][0].update(low="fast")), "must be finite"),
        (broken(lambda d: d["ratios"][0].update(low=9.0)), "must rise"),
        (broken(lambda d: d["ratios"][0].update(low=0.0)), "must be positive"),
        (broken(lambda d: d["ratios"][0].update(rounds=0)), "rounds must be 1 or more"),
        (broken(lambda d: d["ratios"][0].update(better="red")), "better must be higher or lower"),
        (broken(lambda d: d["ratios"].append(d["ratios"][0])), "two ratios have one name"),
    ],
)
def test_a_corrupt_result_is_one_clear_error(tmp_path, capsys, said, why):
    good = saved(tmp_path / "good", record(measured([1.0] * 3)))
    bad = tmp_path / "bad.json"
    bad.write_text(said)
    for arguments in ([str(good), str(bad)], [str(bad), str(good)]):
        assert guard.main(arguments) == 2
        told = capsys.readouterr()
        assert why in told.err
        assert "bad.json" in told.err
        assert told.err.count("\n") == 1
        assert told.out == ""


def test_results_that_are_not_there_are_one_clear_error(tmp_path, capsys):
    good = saved(tmp_path / "good", record(measured([1.0] * 3)))
    (tmp_path / "empty").mkdir()
    for missing in ("empty", "nowhere"):
        assert guard.main([str(tmp_path / missing), str(good)]) == 2
        assert "run make bench first" in capsys.readouterr().err


def test_new_results_are_compared_with_those_git_holds(tmp_path, capsys):
    def git(*arguments):
        named = ("-c", "user.name=A", "-c", "user.email=a@example.com")
        subprocess.run(["git", *named, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "notes").write_text("nothing yet")
    git("add", ".")
    git("commit", "-m", "none")
    place = saved(tmp_path / "deep" / "results", record(measured([1.0] * 7)))
    assert guard.main(["git:HEAD", str(place)]) == 0
    assert "1 new" in capsys.readouterr().out
    git("add", ".")
    git("commit", "-m", "first")
    assert guard.main(["git:HEAD", str(place)]) == 0
    assert "1 same" in capsys.readouterr().out
    saved(place, record(measured([1.3] * 7)))
    assert guard.main(["git:HEAD", str(place)]) == 1
    assert guard.main(["git:HEAD~1", str(place)]) == 0
    assert guard.main(["git:no-such-revision", str(place)]) == 2
    assert "no-such-revision" in capsys.readouterr().err


def report(**changed):
    ratio = {"name": "K=2: speed, reference / ours", "median": 2.0, "low": 1.0, "high": 3.0}
    ratio |= {"rounds": 5, "target": ">= 3"} | changed
    machine = MACHINE | {"load": [1.0], "host": "a name"}
    taken = {"command": ["/a/path"], "cpu_seconds": {"ours": [1.5]}, "facts": {"hidden": 8}}
    return taken | {"machine": machine, "ratios": [ratio]}


def test_a_report_is_kept_without_paths_hosts_and_seconds():
    kept = json.loads(records.text(suite.kept(suite.LIST[0], report())))
    assert all(word not in str(kept) for word in ("/a/path", "a name", "seconds", "1.5"))
    assert kept["ratios"][0]["better"] == "higher"
    assert kept["facts"] == {"hidden": 8}


def test_a_ratio_nobody_reads_is_refused_where_it_is_made():
    with pytest.raises(RecordError, match="which way 'K=2: odd' is better"):
        suite.kept(suite.LIST[0], report(name="K=2: odd"))


def test_benchmarks_are_chosen_by_name_and_the_heavy_ones_only_when_asked_for():
    light, everything = suite.chosen([], False), suite.chosen([], True)
    assert set(light) < set(everything) == set(suite.LIST)
    assert not any(one.heavy for one in light)
    heavy = next(one.name for one in everything if one.heavy)
    assert [one.name for one in suite.chosen([heavy], False)] == [heavy]
    with pytest.raises(RecordError, match="no benchmark nell; there are nelbo"):
        suite.chosen(["nell"], False)


def test_committed_records_are_of_the_list_and_name_no_place(pytestconfig):
    found = records.folder(pytestconfig.rootpath / "benchmarks" / "results")
    listed = {one.name: one for one in suite.LIST}
    assert set(found) <= set(listed)
    for name, one in found.items():
        known = {*records.PLACE, *records.TOLD}
        assert set(one.machine) <= known
        assert not re.search(r'"[/~]', records.text(one))
        assert one.settings == {
            "command": " ".join(listed[name].command),
            "dtype": listed[name].dtype,
        }
        for ratio in one.ratios:
            again = suite.measured(ratio.__dict__, listed[name].readings)
            assert (again.better, again.scale, again.floor) == (
                ratio.better, ratio.scale, ratio.floor,
            )  # fmt: skip
