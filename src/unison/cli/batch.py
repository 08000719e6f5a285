"""unison batch: answer a file of requests, without a server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from unison.cli import shared
from unison.recipes.run import load
from unison.serve import offline
from unison.serve.offline import How, Observer, Progress
from unison.serve.replicas import Share, data


@dataclass(frozen=True)
class Flags:
    """Answer a file of requests: unison batch IN.jsonl OUT.jsonl [MODEL].

    Each line of the input is a request in OpenAI's batch form, {"custom_id": "a", "method":
    "POST", "url": "/v1/completions", "body": {"prompt": "The ", "max_tokens": 16}}, or the body
    alone: {"prompt": "The ", "max_tokens": 16, "seed": 3}. Line i of the output answers line i of
    the input. After a kill, the same command goes on where it was.

    Attributes:
        strict: Refuse a file with a bad line, and stop at the first request that is refused;
            otherwise both get an answer that says why.
        rows: Texts written at once.
        texts: Most texts (n times prompts) of one request.
        device: auto, cpu, cuda or cuda:N.
        ray: Spread the work with Ray Data: local, or the address of a cluster.
        workers: Engines, with --ray.
        tensor_parallel: Devices that one worker's model lies on, with --ray.
        cpus: Of a worker, for each of its devices, with --ray; may be a fraction.
        gpus: Of a worker, for each of its devices, with --ray.
    """

    strict: bool = False
    rows: int = 64
    texts: int = 128
    device: str = "auto"
    ray: str | None = None
    workers: int = 2
    tensor_parallel: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


def run(arguments: list[str]) -> None:
    """Run the verb."""
    source, arguments = shared.take_leading(arguments)
    out, arguments = shared.take_leading(arguments)
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "batch", arguments)
    if source is None or out is None:
        raise ValueError("name a file of requests and one for the answers: unison batch IN OUT.")
    path = shared.unnamed() if name is None else name
    settings = replace(offline.SETTINGS, rows=flags.rows, texts=flags.texts)
    how = How(settings, flags.strict)
    with _bar() as observe:
        if flags.ray is None:
            model = partial(load, path, flags.device)
            done = offline.run(Path(source), Path(out), model, Path(path).name, how, observe)
        else:
            done = _spread(Path(source), Path(out), path, (flags, how), observe)
    shared.log(_said(done, out))


def _spread(
    source: Path, out: Path, path: str, told: tuple[Flags, How], observe: Observer
) -> Progress:
    flags, how = told
    path = str(Path(path).resolve()) if Path(path).exists() else path  # workers run elsewhere
    share = Share(flags.cpus, flags.gpus)
    crew = data.Crew(flags.ray or "local", flags.workers, flags.tensor_parallel, share)
    return data.run(source, out, (path, flags.device), crew, how, observe)


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    with shared.progress() as bars:
        task = bars.add_task("batch", total=None, note="")

        def observe(now: Progress) -> None:
            note = f"{now.failed} failed" if now.failed else ""
            bars.update(task, total=now.total, completed=now.done, note=note)

        yield observe


def _said(done: Progress, out: str) -> str:
    before = f", {done.resumed} of them in an earlier run" if done.resumed else ""
    failed = f"; {done.failed} hold an error" if done.failed else ""
    return f"{done.done} requests answered in {out}{before}{failed}"
