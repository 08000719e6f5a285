"""unison bench: measure how well and how fast models write, on tasks with known answers."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from unison import bench, checkpoints, files
from unison.bench import record
from unison.bench.comparison import compare as comparison
from unison.bench.plan import Plan, questions
from unison.bench.report import markdown, summary, tables
from unison.bench.report import whole as report
from unison.bench.report.document import Document
from unison.bench.run import Observe, Progress
from unison.bench.surveys import SURVEYS
from unison.bench.training import steps
from unison.bench.training.rows import content as written
from unison.bench.training.rows import section as steps_section
from unison.bench.training.steps import Speed
from unison.cli import roofline, shared
from unison.language_model import LanguageModel
from unison.recipes.run import load
from unison.suites import SUITES, TASKS, settings_of


@dataclass(frozen=True)
class Flags:
    """Run every model on every task with every strategy, and record all that decides the numbers.

    The first arguments are models. --out gets results.jsonl, every answer, summary.md, report.html
    and figures. A run that was interrupted goes on with --resume.

    Suites, tasks and strategies are NAME or NAME:SETTING=VALUE,...; A|B as a value means each of
    them: llada:steps=8|16|32.

    unison bench --list says what there is, --compare A B compares two folders problem by problem,
    --training measures training instead, --roofline every kind of work beside the machine's limits.

    Attributes:
        out: Folder of the results; must be new or empty unless --resume.
        suite: Suites and tasks.
        strategies: Strategies and presets; default is the model's own.
        count: Problems of each task.
        samples: Texts for each problem; more than 1 adds pass@k and what grows with it.
        new_tokens: Open tokens of a canvas; if left out, the longest right answer of the task.
        batch_size: Texts written together; changes speed and memory, never text.
        seed: Names problems and noise.
        chat: Ask as a user's message, by the checkpoint's chat template.
        execute: Allow running code that a model wrote, in a subprocess with limits.
        resume: Go on with what is in --out.
        dtype: Of the weights, such as bfloat16; the checkpoint's own if left out.
        device: auto, cpu, cuda or cuda:N.
        json: Print the results as one JSON document on stdout; logs go to stderr.
    """

    out: Path
    suite: tuple[str, ...]
    strategies: tuple[str, ...] = ("default",)
    count: int = 100
    samples: int = 1
    new_tokens: int | None = None
    batch_size: int = 16
    seed: int = 0
    chat: bool = False
    execute: bool = False
    resume: bool = False
    dtype: str | None = None
    device: str = "auto"
    json: bool = False


@dataclass(frozen=True)
class Comparison:
    """Compare two benches: differences problem by problem, with 95 % intervals.

    Attributes:
        compare: Two folders.
        out: Folder to write comparison.md and comparison.html to.
        json: Print the differences as one JSON document on stdout.
    """

    compare: tuple[Path, Path]
    out: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class Export:
    """Write problems with their right answers, to train on: prompts and completions in .jsonl.

    unison finetune takes them as --pairs. Take another --seed than the bench's, which is 0.

    Attributes:
        export: File to write; must not exist.
        suite: Suites and tasks.
        count: Problems of each task.
        seed: Names the problems.
    """

    export: Path
    suite: tuple[str, ...]
    count: int = 1000
    seed: int = 1


@dataclass(frozen=True)
class Training:
    """Time the training step of objectives at several sizes, next to the machine's own limits.

    Attributes:
        out: Folder for summary.md, report.html and training.json.
        json: Print the rows as one JSON document on stdout; logs go to stderr.
    """

    out: Path | None = None
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    given = {word.partition("=")[0] for word in arguments}
    if "--list" in given:
        print("\n".join(listed()))
    elif "--compare" in given:
        compare(shared.parse(Comparison, "bench", arguments))
    elif "--export" in given:
        export(shared.parse(Export, "bench", arguments))
    elif "--training" in given:
        training([word for word in arguments if word != "--training"])
    elif "--roofline" in given:
        roofline.run([word for word in arguments if word != "--roofline"])
    else:
        measure(arguments)


def measure(arguments: list[str]) -> None:
    """Run a bench and write its report.

    Raises:
        ValueError: Something that is named does not exist or does not fit; nothing was run.
    """
    models, arguments = _leading(arguments)
    flags = shared.parse(Flags, "bench", arguments, f"Suites: {', '.join(SUITES)}.")
    if not models:
        raise ValueError("name at least one model: unison bench MODEL --suite NAME --out DIR.")
    said = {f.name: getattr(flags, f.name) for f in fields(Plan) if f.name != "models"}
    plan = Plan(tuple(models), **said)
    for name in models:
        checkpoints.locate(name)

    def loaded(name: str) -> LanguageModel:
        return load(name, flags.device, flags.dtype)

    with _bar() as observe:
        results = bench.run(plan, flags.out, loaded, resume=flags.resume, observe=observe)
    report.write(flags.out, results)
    if flags.json:
        shared.emit({"results": [json.loads(record.line(result)) for result in results]})
    else:
        print(report.brief(results))
        shared.log(f"report: {flags.out / 'report.html'}")


def export(flags: Export) -> None:
    """Write problems as pairs.

    Raises:
        ValueError: A task is unknown, asks for something between two texts, or the file is there.
    """
    if flags.export.exists():
        raise ValueError(f"{flags.export} exists; name a new file.")
    problems = [
        problem
        for asked in questions(flags.suite)
        for problem in asked.task.problems(flags.count, flags.seed)
    ]
    gap = next((problem for problem in problems if problem.suffix), None)
    if gap is not None:
        raise ValueError(f"{gap.name} is a gap with text behind it, which no pair can hold.")
    pairs = [{"prompt": problem.prompt, "completion": problem.answer} for problem in problems]
    files.write_text(flags.export, "".join(files.to_json(pair) + "\n" for pair in pairs))
    shared.log(f"{len(pairs)} problems in {flags.export}")


def compare(flags: Comparison) -> None:
    """Say how two benches differ.

    Raises:
        ValueError: A folder is no bench, or nothing in the two can be paired.
    """
    found = comparison.compare(*flags.compare)
    document = comparison.document(found)
    if flags.out is not None:
        flags.out.mkdir(parents=True, exist_ok=True)
        summary.write(flags.out, document, text="comparison.md", page="comparison.html")
    if flags.json:
        shared.emit(comparison.content(found))
    else:
        print(markdown.render(document))


def training(arguments: list[str]) -> None:
    """Time training steps, and say what the machine could do.

    Raises:
        ValueError: An objective or size is unknown, or the two do not go together.
    """
    flags, speed = shared.parse_with(Training, Speed(), "bench --training", arguments)
    rows, limits = steps.measure(speed, shared.log)
    found = {"settings": asdict(speed), **written(rows, limits)}
    document = Document("unison bench --training", (), (steps_section(rows, limits),))
    if flags.out is not None:
        flags.out.mkdir(parents=True, exist_ok=True)
        summary.write(flags.out, document)
        files.write_json(flags.out / "training.json", found)
    if flags.json:
        shared.emit(found)
    else:
        print(markdown.render(document))


def listed() -> list[str]:
    """Return suites, and tasks with a sentence and their settings."""
    lines = ["suites", *(f"  {name:20}{', '.join(tasks)}" for name, tasks in SUITES.items())]
    for title, table in (("tasks", TASKS), ("judged as a whole", SURVEYS)):
        lines += ["", title]
        for name, kind in table.items():
            built: Any = kind.func if isinstance(kind, partial) else kind
            fixed = kind.keywords if isinstance(kind, partial) else {}
            settings = [_setting(f, fixed) for f in settings_of(kind)]
            lines += [f"  {name:20}{built.about}", f"  {'':20}{', '.join(settings)}"]
    return lines


def _setting(field: Field[Any], fixed: Mapping[str, Any]) -> str:
    """Return a setting with its value if it has one that is not the caller's to give."""
    value = fixed.get(field.name, field.default)
    if field.default_factory is not MISSING:
        value = field.default_factory()
    return field.name if value is MISSING else f"{field.name}={'' if value is None else value}"


def _leading(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before the first flag, and the rest."""
    first = next((i for i, a in enumerate(arguments) if a.startswith("-")), len(arguments))
    return arguments[:first], arguments[first:]


@contextmanager
def _bar() -> Iterator[Observe]:
    """Yield an observer that draws a bar on a terminal, and a line per cell elsewhere."""
    with shared.progress() as bars:
        task = bars.add_task("bench", total=None, note="")

        def observe(now: Progress) -> None:
            asked = " ".join([Path(now.asked.model).name, now.asked.task, now.asked.strategy])
            bars.update(task, completed=now.done, total=now.total, note=asked)
            if now.result is not None and not shared.console.is_terminal:
                shared.log(f"{now.done}/{now.total} {asked}: {tables.outcome(now.result)}")

        yield observe
