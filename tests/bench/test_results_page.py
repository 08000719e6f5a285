"""The page of our own numbers says what the committed records say, and nothing else."""

import re
import shutil

import pytest

pytest.importorskip("matplotlib")

from benchmarks import page
from unison.bench import read_results
from unison.bench.record import read_answers
from unison.bench.report import markdown
from unison.bench.report.document import Document
from unison.bench.theory import tries

FITTED = "More tries"  # bootstrap and least squares, which round differently on other machines
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
QUICK = ("lists-left-to-right", "smollm2", "training")
DEAR = ("lists", "tries")  # figures of many tasks, each drawn three times; laws of many tries

each = pytest.mark.parametrize(
    "record", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in DEAR)]
)


@pytest.fixture(scope="module")
def told(pytestconfig):
    return by_record((pytestconfig.rootpath / page.PAGE).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def again(pytestconfig, tmp_path_factory):
    """The page made anew from one record alone, each once."""
    made = {}

    def of(record):
        if record not in made:
            folder = tmp_path_factory.mktemp("records")
            shutil.copytree(pytestconfig.rootpath / page.RECORDS / record, folder / record)
            made[record] = by_record(page.text(page.document(folder)))
        return made[record]

    return of


def by_record(text):
    """What stands before the records, under "", and each record's part by its name."""
    before, *found = re.split(r"^## Record ", text, flags=re.MULTILINE)
    return {"": before} | {name: body for name, _, body in (one.partition("\n") for one in found)}


def parts(text):
    """The part of a record by its headings, in order."""
    return [part.partition("\n")[::2] for part in re.split(r"^##+ ", text, flags=re.MULTILINE)]


@each
def test_every_number_of_the_page_comes_from_the_records(told, again, record):
    made = again(record)
    assert set(made) == {"", record}
    assert made[""] == told[""]
    said, found = parts(told[record]), parts(made[record])
    assert [heading for heading, _ in said] == [heading for heading, _ in found]
    for (heading, first), (_, second) in zip(said, found, strict=True):
        if heading != FITTED:
            assert first.strip() == second.strip()


def test_the_page_tells_of_every_record_in_their_order(told, pytestconfig):
    folders = sorted(
        path.parent.name for path in (pytestconfig.rootpath / page.RECORDS).glob("*/*.json")
    )
    assert list(told) == ["", *folders]
    assert sorted(folders) == sorted((*QUICK, *DEAR))


@pytest.mark.slow
def test_what_is_fitted_comes_out_the_same_but_for_rounding(told, again):
    compared = 0
    for record in (*QUICK, *DEAR):
        for (heading, said), (_, found) in zip(
            parts(told[record]), parts(again(record)[record]), strict=True
        ):
            if heading == FITTED:
                compared += 1
                assert NUMBER.sub("#", said).strip() == NUMBER.sub("#", found).strip()
                assert numbers([said]) == pytest.approx(numbers([found]), rel=0.02, abs=0.2)
    assert compared


def test_what_is_fitted_comes_from_the_record_figures_apart(told, pytestconfig, monkeypatch):
    monkeypatch.setattr(tries, "_DRAWN", 0)
    folder = pytestconfig.rootpath / page.RECORDS / "tries"
    fitted = tries.section(read_results(folder), lambda asked: read_answers(folder, asked)[0])
    assert fitted is not None
    assert fitted.heading == FITTED
    found = markdown.render(Document("", (), [fitted])).partition(f"## {FITTED}")[2]
    said = dict(parts(told["tries"]))[FITTED]
    lines = [line for line in said.splitlines() if line.startswith("|")]
    again = [line for line in found.splitlines() if line.startswith("|")]
    assert [NUMBER.sub("#", line) for line in lines] == [NUMBER.sub("#", line) for line in again]
    assert numbers(lines) == pytest.approx(numbers(again), rel=0.02, abs=0.2)
    assert len(numbers(lines)) > 100


def numbers(lines):
    return [float(n.replace(",", "")) for line in lines for n in NUMBER.findall(line)]


def test_every_figure_of_the_page_is_there(told, pytestconfig):
    names = re.findall(r"\]\((bench/figures/[^)]+)\)", "".join(told.values()))
    assert names
    folder = (pytestconfig.rootpath / page.PAGE).parent
    assert all((folder / name).stat().st_size > 1000 for name in names)
    left = {f"bench/figures/{path.name}" for path in (folder / "bench" / "figures").glob("*.png")}
    assert left == set(names)
