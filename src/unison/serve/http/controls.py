"""How is a text to be written? The fields all writing endpoints share, and what they mean here."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from unison import constrain
from unison.constrain import Grammar
from unison.decode import STRATEGIES
from unison.decode.autoregressive import LeftToRight
from unison.decode.presets import PRESETS
from unison.engine import CACHES
from unison.generation import Covers, Sampling, choose
from unison.generation.settings import policy_of
from unison.language_model import LanguageModel
from unison.process import Sequential
from unison.serve.http.bounds import short
from unison.serve.http.errors import Refused
from unison.serve.http.fields import Empty, StopString, StreamOptions, Strict, Zero, one_of
from unison.serve.http.response_format import bounded, schema_language
from unison.serve.http.strategies import strategy_of

MOST_STEPS = 65_536
_Strategy = one_of("strategy", tuple(dict.fromkeys((*STRATEGIES, *PRESETS))))
_Cache = one_of("cache", CACHES)
_Language = Annotated[str, Field(min_length=1, max_length=100_000)]
CONSTRAINTS = ("regex", "grammar", "json_schema", "choices", "template")


class Controls(Strict):
    """Extensions: how the text is written, and what it must obey."""

    strategy: _Strategy | None = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=None,
        description="Decoding strategy or published preset; the model's own if left out. A "
        "left-to-right model of which nothing is asked stops at the end of its text: the same text "
        "in fewer evaluations, `LeftToRight(stop_at_end=True)` of the library.",
    )
    settings: dict[str, Any] | None = Field(
        default=None,
        description="Settings of the strategy by name, such as {'steps': 16}, of its parts by "
        "dotted name, such as {'select.threshold': 0.9}, and parts themselves, such as "
        "{'select': 'threshold'}. Parts without a strategy make a composed one.",
    )
    steps: int | None = Field(
        default=None, ge=1, le=MOST_STEPS, description="Denoising steps, where a strategy has them."
    )
    block_length: int | None = Field(
        default=None,
        ge=1,
        le=1 << 20,
        description="Tokens of a block, for strategies that write block by block.",
    )
    top_k: int | None = Field(
        default=None, ge=1, le=1 << 31, description="Draw from this many likeliest tokens."
    )
    cfg: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Scale of classifier-free guidance; 0 for none.",
    )
    cache: _Cache | None = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=None,
        description="What is remembered between steps. If left out: `exact` for a left-to-right "
        "model and a strategy it goes with, which changes no text; `none` otherwise.",
    )
    length: int | None = Field(
        default=None,
        ge=1,
        le=1 << 31,
        description="Tokens of the canvas, given ones included; instead of a number of new ones.",
    )
    regex: _Language | None = Field(
        default=None, description="Regular expression that the whole answer matches."
    )
    grammar: _Language | None = Field(
        default=None,
        description="Grammar of the answer in Lark or GBNF notation, or the name of a shipped "
        f"one: {', '.join(constrain.GRAMMARS)}.",
    )
    json_schema: dict[str, Any] | None = Field(
        default=None, description="JSON schema that the answer is valid against."
    )
    choices: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="Texts of which the answer is one."
    )
    template: _Language | None = Field(
        default=None,
        description="Text with typed holes that the answer fills: 'Age: {age:int}.'",
    )
    covers: Literal["answer", "canvas"] | None = Field(
        default=None,
        description="Whether the constraint speaks of the answer alone, as it does if left out, "
        "or of the whole canvas.",
    )
    priority: int = Field(
        default=0, ge=-10, le=10, description="Requests of higher priority go first."
    )
    deadline: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="Seconds after which nobody waits for the answer any more.",
    )
    drafts: bool = Field(
        default=False,
        description="Whether a stream tells drafts and revisions of tokens, by position, in "
        "chunks without choices whose field `unison` holds them.",
    )


class Standard(Controls):
    """The fields of OpenAI's writing endpoints that mean the same in all of them."""

    model: str | None = Field(
        default=None, max_length=1000, description="Which model; the server's first if left out."
    )
    n: int = Field(default=1, ge=1, le=1024, description="Texts to write for each prompt.")
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="0 for the likeliest token, 1 for the model's own law; the strategy's own if "
        "left out.",
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Draw from the likeliest tokens of this mass."
    )
    seed: int | None = Field(
        default=None,
        ge=-(1 << 63),
        lt=1 << 63,
        description="Names all randomness: the text is the one `unison.generate` writes for it. "
        "Drawn afresh if left out; the answer tells it.",
    )
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = Field(
        default=None, description="Strings that end the text, which is cut before the first."
    )
    stream: bool = Field(default=False, description="Whether text is sent as it is committed.")
    stream_options: StreamOptions | None = Field(
        default=None, description="What a stream tells besides; only with `stream`."
    )
    user: str | None = Field(
        default=None, max_length=1000, description="Taken for compatibility; changes nothing."
    )
    frequency_penalty: Zero | None = Field(default=None, description="Only 0 is supported.")
    presence_penalty: Zero | None = Field(default=None, description="Only 0 is supported.")
    logit_bias: Empty | None = Field(default=None, description="Only the empty one is supported.")

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that end a text."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


def check_stream(body: Standard) -> None:
    """Refuse fields that speak of a stream where there is none.

    Raises:
        Refused: Naming the field.
    """
    if not body.stream:
        for name in ("stream_options", "drafts"):
            if getattr(body, name):
                raise Refused(f"{name} speaks of a stream; set stream, or leave it out.", name)


def sampling(
    model: LanguageModel,
    body: Controls,
    temperature: float | None = None,
    top_p: float | None = None,
    *,
    ending: bool = True,
) -> Sampling:
    """Return how a model writes what is asked for.

    Args:
        model: Writes.
        body: The request.
        temperature: Of the request, where it has one.
        top_p: Likewise.
        ending: Whether nothing follows what is written, so that its end may be the canvas's.

    Raises:
        ValueError: A setting is unknown, out of range, or does not go with the model.
    """
    plain = Sampling(
        None,
        body.steps,
        body.block_length,
        temperature,
        body.top_k,
        top_p,
        body.cfg or 0.0,
        body.cache,
    )
    asked = strategy_of(model, body.strategy, body.settings, plain)
    if not isinstance(model.process, Sequential):
        return asked
    if asked.strategy is None and ending:
        asked = _ending(model, asked)
    return _remembering(model, asked) if body.cache is None else asked


def _ending(model: LanguageModel, asked: Sampling) -> Sampling:
    """Return the same, where the model's own strategy goes on behind the end of a text, without."""
    strategy = choose(model, asked)
    if not isinstance(strategy, LeftToRight):
        return asked
    return replace(asked, strategy=replace(strategy, stop_at_end=True))


def _remembering(model: LanguageModel, asked: Sampling) -> Sampling:
    """Return the same with the exact cache, where it goes with the strategy."""
    strategy = choose(model, asked)
    try:
        policy = policy_of(model, strategy, "exact")
    except ValueError:  # it does not go with it: nothing is remembered
        return asked
    return replace(asked, cache=policy)


def constraint(body: Controls) -> Grammar | None:
    """Return the language of the answer; ``None`` for any text.

    Raises:
        Refused: Naming the field: two say what is allowed, or what one says cannot be met.
    """
    said = [name for name in CONSTRAINTS if getattr(body, name) is not None]
    if len(said) > 1:
        raise Refused(
            f"{' and '.join(said)} both say what text is allowed; give one of them.", said[1]
        )
    if not said:
        if body.covers is not None:
            raise Refused("covers says what a constraint speaks of, and there is none.", "covers")
        return None
    try:
        return _language(said[0], getattr(body, said[0]))
    except ValueError as error:
        raise Refused(str(error), said[0]) from error


def constraint_field(body: Controls) -> str | None:
    """Return the field that says what text is allowed; ``None`` where none does."""
    said = ("response_format", "tools", *CONSTRAINTS)
    return next((name for name in said if getattr(body, name, None) is not None), None)


def _language(name: str, said: Any) -> Grammar:
    if name == "json_schema":
        return schema_language(said, name)
    if name == "choices":
        return bounded(lambda: constrain.choice(said), name)
    if name == "grammar" and said in constrain.GRAMMARS:
        return constrain.GRAMMARS[said]()
    make = {"regex": constrain.regex, "grammar": constrain.grammar, "template": constrain.template}
    return bounded(lambda: make[name](short(said, name)), name)


def covered(body: Controls) -> Covers:
    """Return what the constraint speaks of."""
    return body.covers or "answer"
