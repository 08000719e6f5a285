"""unison serve: answer requests over HTTP, as OpenAI's API and beyond it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unison.cli import compiling, shared, threads
from unison.engine.compiled import Compiling
from unison.engine.quantised import Precision
from unison.language_model import LanguageModel
from unison.recipes.run import load
from unison.serve import door
from unison.serve.settings import Settings


@dataclass(frozen=True)
class Flags:
    """Serve models: unison serve MODEL [NAME=MODEL ...]; the newest run if none is named.

    Where there is no run either it is the model that comes with unison. A model is a run, a folder,
    a file of weights or ORG/NAME on the hub; requests call it NAME, or by the last part of its
    path. The first is the default.

    It listens on this machine alone unless told otherwise. SIGTERM and Ctrl-C let running
    requests end, for --drain seconds; SIGHUP and POST /admin/reload load the models anew.
    GET /health, /ready and /metrics say how it is, unison doctor --server URL tries it out. Each
    request is a line of JSON on stderr.

    Attributes:
        insecure: Let other machines in without keys.
        dtype: Of the weights, such as bfloat16; the checkpoint's own if left out.
        weights: Fewer bits a weight: exact changes none of them; 8, 4 and adaptive4 round, and are
            fast for few positions; dynamic8 and bfloat16 are for many (docs/quantisation.md).
        compile: Compile evaluations of whole canvases; auto where a trial says it pays.
        graphs: On a GPU, record evaluations once and replay them (CUDA graphs).
        tokenizer: tokenizer.json, or its folder, where the model has none.
        adapter: Low-rank adapter to apply.
        device: auto, cpu, cuda or cuda:N.
    """

    insecure: bool = False
    dtype: str | None = None
    weights: Precision | None = None
    compile: Compiling = "off"
    graphs: bool = False
    tokenizer: str | None = None
    adapter: str | None = None
    device: str = "auto"


def run(arguments: list[str]) -> None:
    """Run the verb."""
    asked: list[str] = []
    while True:
        one, arguments = shared.take_leading(arguments)
        if one is None:
            break
        asked.append(one)
    flags, settings = shared.parse_with(Flags, Settings(), "serve", arguments)
    door.require()
    compiling.check(flags.weights, flags.compile, graphs=flags.graphs)
    threads.used()
    from unison.serve import running
    from unison.serve.service import Hosted

    running.check(settings, insecure=flags.insecure)  # before minutes of loading
    running.claim(settings)
    places = named(asked or [shared.unnamed()])
    if len(places) > 1 and (flags.tokenizer is not None or flags.adapter is not None):
        raise ValueError("--tokenizer and --adapter speak of one model, and there are several.")
    readers = {name: partial(_loaded, place, flags) for name, place in places.items()}
    models = {
        name: Hosted(name, read(), read, source=places[name]) for name, read in readers.items()
    }
    server = running.Server(running.hosting(models, settings), insecure=flags.insecure)
    server.run(lambda line: shared.log(f"unison: {line}"))


def named(asked: list[str]) -> dict[str, str]:
    """Return where models are by what requests call them.

    Raises:
        ValueError: Two have one name, or one has none.
    """
    places: dict[str, str] = {}
    for one in asked:
        name, said, place = one.partition("=")
        if not said or Path(one).exists():
            path = Path(one)
            name, place = path.stem if path.is_file() else path.resolve().name, one
        if not name or not place:
            raise ValueError(f"{one!r}: write NAME=MODEL, or the model alone.")
        if name in places:
            raise ValueError(
                f"two models are called {name!r}: {places[name]} and {place}; name them, as in "
                f"other={place}."
            )
        places[name] = place
    return places


def _loaded(place: str, flags: Flags) -> LanguageModel:
    model = load(place, flags.device, flags.dtype, flags.tokenizer, flags.adapter)
    if flags.graphs:
        model = compiling.recorded(model)
    return compiling.quickened(model, flags.weights, flags.compile)
