"""unison generate: let a model write, complete or fill in."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unison.cli import (
    compiling,
    constraint,
    devices,
    prompts,
    searching,
    shared,
    show,
    speculation,
    threads,
    watching,
)
from unison.cli import strategy as chosen
from unison.cli.constraint import Allowed, Asked
from unison.cli.devices import Way
from unison.cli.prompts import Prompts
from unison.cli.watching import Watch
from unison.decode import Strategy
from unison.engine.compiled import Compiling
from unison.engine.quantised import Precision
from unison.generation import (
    Covers,
    Sample,
    Sampling,
    generate,
    with_defaults,
)
from unison.language_model import LanguageModel
from unison.recipes.run import load
from unison.scale.ranks import World
from unison.search.writing import Chosen, searched
from unison.speculation import Speculation
from unison.speculation.pearl import Pearl


@dataclass(frozen=True)
class Flags:
    """Write text. The first argument is a run or a model; the newest run if left out.

    Where there is no run it is the model that comes with unison, of children's stories.

    How it is written: --strategy NAME, a strategy or a published preset. Its settings then become
    flags (see generate --strategy NAME --help). A composed one has parts, chosen by name with
    --order, --select, --revise and --stop, and their settings too are flags: --select.threshold
    0.8. Other tools' names (--gen-length, --block-size, --remasking, --cfg-scale) are understood.

    A left-to-right model writes several tokens for one evaluation with --drafter NAME, and the
    text is still the one it writes without; --builder, --verifier, --scheduler and --policy name
    the other parts, NAME or NAME:SETTING=VALUE,...

    Attributes:
        prompt: Given text at the left.
        suffix: Given text at the right.
        canvas: The whole canvas instead, as JSON: given text and numbers of open tokens, such as
            ["def f(", 4, ")"].
        prompts: File with a prompt on each line, or, if it ends in .jsonl, objects with prompt and
            suffix, or with parts (a canvas); - for the standard input.
        num: Texts to write for each prompt.
        length: Tokens of the canvas, prompt and suffix included.
        new_tokens: Tokens to write between prompt and suffix, instead of --length.
        json_schema: File with a JSON schema that the text must be valid against.
        regex: Regular expression that the whole text must match.
        grammar: File with a grammar (Lark or GBNF notation) of the text, or a shipped one: json,
            python, cpp, smiles.
        template: Text with typed holes of any length, such as "Name: {name:word}, age {age:int}".
        choices: Texts to choose from, between bars: "yes|no".
        scaffold: Write out what a JSON schema or a template says literally, and leave this many
            tokens for each value.
        unknown_keywords: Whether keywords of a JSON schema that no draft knows are refused, or
            taken for annotations.
        covers: Whether the constraint speaks of the answer alone or of the whole canvas.
        steps: Denoiser evaluations.
        block_length: Tokens of a block, for strategies that write block by block.
        temperature: 0 for the most probable token, 1 for the model's own law.
        top_k: Keep this many tokens of the belief.
        top_p: Keep the smallest set of tokens with this mass.
        cfg: Scale of classifier-free guidance: 0 for none, above it to follow the prompt more.
        cache: What is remembered between steps; exact or approximate (see unison doctor MODEL).
        judge: Causal model that strategies guided by one ask.
        search: Write many candidates and keep what --reward likes best: best_of, svdd, particles,
            paths or zero_order, with settings as in best_of:n=8.
        reward: What --search looks for, module:function: a list of texts to a number each.
        seed: Names all randomness; text i of a prompt depends on it and on i, not on --num.
        batch_size: Texts written together; changes speed, never text.
        trace: File to write what every step did to; unison replay shows it.
        show: Draw the canvas while it is written; needs a terminal.
        dtype: Of the weights, such as bfloat16; the checkpoint's own if left out.
        weights: Fewer bits a weight: exact changes none of them; 8, 4 and adaptive4 round, and are
            fast for few positions; dynamic8 and bfloat16 are for many (docs/quantisation.md).
        compile: Compile evaluations of whole canvases; auto where a trial says it pays.
        graphs: On a GPU, record whole steps, or else evaluations, and replay them (CUDA graphs).
        tokenizer: tokenizer.json, or its folder, where the model has none.
        adapter: Low-rank adapter to apply.
        device: auto, cpu, cuda or cuda:N.
        devices: How ranks started by torchrun share the model: tp, each holds part of every layer;
            cp, each computes part of every canvas.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    prompt: str = ""
    suffix: str = ""
    canvas: str | None = None
    prompts: Path | None = None
    num: int = 1
    length: int | None = None
    new_tokens: int | None = None
    json_schema: Path | None = None
    regex: str | None = None
    grammar: str | None = None
    template: str | None = None
    choices: str | None = None
    scaffold: int | None = None
    unknown_keywords: Literal["refuse", "ignore"] = "refuse"
    covers: Covers = "answer"
    steps: int | None = None
    block_length: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    cfg: float = 0.0
    cache: str | None = None
    judge: str | None = None
    search: str | None = None
    reward: str | None = None
    seed: int = 0
    batch_size: int = 64
    trace: Path | None = None
    show: bool = False
    dtype: str | None = None
    weights: Precision | None = None
    compile: Compiling = "off"
    graphs: bool = False
    tokenizer: str | None = None
    adapter: str | None = None
    device: str = "auto"
    devices: Way | None = None
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    threads.used()
    name, arguments = shared.take_leading(arguments)
    arguments, notes = chosen.translated(arguments)
    strategy, arguments = chosen.take(arguments)
    parts, arguments = speculation.take(arguments)
    if parts is not None and strategy is not None:
        raise ValueError("--strategy and the parts of speculation are two ways to write; give one.")
    about = f"{chosen.about(strategy)}\n\n{speculation.about()}"
    if strategy is None:
        flags = shared.parse(Flags, "generate", arguments, about)
    else:
        flags, strategy = shared.parse_with(Flags, strategy, "generate", arguments, about)
    for note in notes:
        shared.log(note)
    devices.together(
        flags,
        flags.devices,
        flags.device,
        lambda own, world: _run(name, own, (strategy, parts), world),
    )


def _run(
    name: str | None,
    flags: Flags,
    how: tuple[Strategy | None, speculation.Named | None],
    world: World,
) -> None:
    strategy, parts = how
    asked, allowed = check(flags), _allowed(flags)
    wanted = searching.wanted(flags.search, flags.reward, _unsearched(flags, allowed, parts))
    model = _loaded(name, flags)
    if wanted is not None:
        searching.tell(search(model, flags, strategy, asked, wanted), flags.json)
        return
    if parts is not None:
        _check_parts(flags)
    way = strategy if parts is None else speculation.built(model, parts)
    samples = write(model, flags, way, asked, allowed)
    devices.confirm([sample.text for sample in samples], world)
    if flags.json:
        shared.emit({"samples": [dataclasses.asdict(sample) for sample in samples]})
    elif not flags.show or len(samples) > 1:
        tell(samples)


def _loaded(name: str | None, flags: Flags) -> LanguageModel:
    model = load(
        name or shared.unnamed(), flags.device, flags.dtype, flags.tokenizer, flags.adapter
    )
    if flags.graphs:
        model = compiling.recorded(model)
    how = flags.compile if flags.devices is None else "off"
    model = compiling.quickened(model, flags.weights, how, flags.length)
    return devices.spread(model, flags.devices)


def check(flags: Flags) -> Prompts:
    """Return what is asked for.

    Raises:
        ValueError: Flags contradict each other or the terminal, before any work is done.
    """
    compiling.check(flags.weights, flags.compile, flags.devices, graphs=flags.graphs)
    if flags.show:
        if flags.json:
            raise ValueError("--show draws where --json prints; leave one of them out.")
        show.require_terminal()
    if flags.trace is not None and not flags.trace.parent.is_dir():
        raise ValueError(f"--trace {flags.trace}: there is no folder {flags.trace.parent}.")
    if flags.prompts is not None:
        if flags.prompt or flags.canvas is not None:
            raise ValueError("--prompts FILE says what is given: leave --prompt, --canvas out.")
        return prompts.read(flags.prompts, flags.suffix)
    parts = None if flags.canvas is None else prompts.canvas(flags.canvas)
    return Prompts(flags.prompt, flags.suffix, parts)


def _check_parts(flags: Flags) -> None:
    """Raise ValueError for flags that speak of the steps of a strategy."""
    said = [name for name in ("trace", "show") if getattr(flags, name)]
    if said:
        raise ValueError(
            f"--{said[0]} follows the steps of a strategy, and speculation has rounds: see unison "
            "explain-speculation."
        )


def _allowed(flags: Flags) -> Allowed:
    allowed = constraint.allowed(
        Asked(
            flags.json_schema,
            flags.regex,
            flags.grammar,
            flags.template,
            flags.choices,
            flags.scaffold,
            flags.unknown_keywords,
        )
    )
    if allowed.constraint is None and flags.covers != "answer":
        raise ValueError(
            f"--covers {flags.covers} says what a constraint speaks of, and there is none; give "
            "one, such as --regex."
        )
    return allowed


def write(
    model: LanguageModel,
    flags: Flags,
    strategy: Strategy | Speculation | Pearl | None,
    asked: Prompts,
    allowed: Allowed,
) -> list[Sample]:
    """Write what the flags ask for.

    Raises:
        ValueError: A flag is out of range or does not fit the model.
    """
    judge = None if flags.judge is None else load(flags.judge, flags.device)
    sampling = Sampling(
        None if isinstance(strategy, Speculation | Pearl) else strategy,
        flags.steps,
        flags.block_length,
        flags.temperature,
        flags.top_k,
        flags.top_p,
        flags.cfg,
        judge=judge,
    )
    if strategy is not None and not isinstance(
        strategy, Speculation | Pearl
    ):  # as for a name in Python
        strategy = with_defaults(model, strategy, sampling)
        sampling = dataclasses.replace(sampling, strategy=strategy)
    if isinstance(strategy, Speculation) and not strategy.lossless:
        shared.log("a part of this speculation is lossy: the text does not have the model's law")
    watch = Watch(flags.trace, flags.show, flags.seed, flags.num)
    with watching.watched(model, sampling, watch) as observe:
        return generate(
            model,
            asked.prompt,
            suffix=asked.suffix,
            parts=asked.parts,
            length=flags.length,
            new_tokens=flags.new_tokens,
            scaffold=allowed.scaffold,
            constraint=allowed.constraint,
            covers=flags.covers,
            num=flags.num,
            strategy=strategy,
            steps=flags.steps,
            block_length=flags.block_length,
            temperature=flags.temperature,
            top_k=flags.top_k,
            top_p=flags.top_p,
            cfg=flags.cfg,
            cache=flags.cache,
            judge=judge,
            seed=flags.seed,
            batch_size=flags.batch_size,
            on_step=observe,
        )


def search(
    model: LanguageModel,
    flags: Flags,
    strategy: Strategy | None,
    asked: Prompts,
    wanted: searching.Wanted,
) -> list[Chosen]:
    """Write what the flags ask for, and choose among it.

    Raises:
        ValueError: A flag is out of range or does not fit the model or the search.
    """
    if strategy is not None:  # as for a name in Python
        sampling = Sampling(strategy, flags.steps, flags.block_length)
        strategy = with_defaults(model, strategy, sampling)
    return searched(
        model,
        asked.prompt,
        reward=wanted.reward,
        search=wanted.search,
        suffix=asked.suffix,
        parts=asked.parts,
        length=flags.length,
        new_tokens=flags.new_tokens,
        num=flags.num,
        strategy=strategy,
        steps=flags.steps,
        block_length=flags.block_length,
        temperature=flags.temperature,
        top_k=flags.top_k,
        top_p=flags.top_p,
        cfg=flags.cfg,
        seed=flags.seed,
        batch_size=flags.batch_size,
    )


def _unsearched(flags: Flags, allowed: Allowed, speculated: object) -> dict[str, bool]:
    """Return what no search goes with, and whether it was asked for."""
    named = ("cache", "judge", "trace", "show", "devices")
    return {
        "a constraint": allowed.constraint is not None or allowed.scaffold is not None,
        "a drafter": speculated is not None,
        **{f"--{name}": bool(getattr(flags, name)) for name in named},
    }


def tell(samples: list[Sample]) -> None:
    """Print texts, numbered if there are several."""
    several = len({sample.prompt for sample in samples}) > 1
    numbers: dict[int, int] = {}
    for sample in samples:
        number = numbers[sample.prompt] = numbers.get(sample.prompt, -1) + 1
        if len(samples) > 1:
            which = f"{sample.prompt}.{number}" if several else f"{number}"
            print(f"--- {which} ({sample.nfe} evaluations)")
        print(sample.text)
