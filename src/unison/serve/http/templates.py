"""How does a conversation become a prompt? By the model's own chat template, or a plain one.

The template is that of the checkpoint: ``chat_template.jinja``, ``chat_template`` in
``tokenizer_config.json``, or the metadata of a GGUF file. It runs in Jinja's sandbox, with what
templates of Hugging Face checkpoints may use. A model without one is spoken to plainly::

    You are terse.

    User: Hello
    Assistant: Hi.
    User: Bye
    Assistant:

and its answer ends where the next ``User:`` begins on a line of its own.

Text in which special tokens stand by name is the template's alone: a message that holds such a
name is refused, for it would end its turn or speak for somebody else.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import jinja2  # comes with torch
import tokenizers
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from unison import checkpoints
from unison.data.chat import CHAT_FILES
from unison.data.tokenizer import Tokenizer
from unison.language_model import LanguageModel

PLAIN = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}
{%- elif message.role == 'user' -%}{{ 'User: ' + message.content + '\\n' }}
{%- elif message.role == 'tool' -%}{{ 'Tool: ' + message.content + '\\n' }}
{%- else -%}{{ 'Assistant: ' + message.content }}
{%- for call in message.tool_calls or [] -%}{{ call.function | tojson }}{%- endfor -%}{{ '\\n' }}
{%- endif -%}
{%- endfor -%}
{{ 'Assistant:' }}"""
PLAIN_END = "\nUser:"
CALLING = (
    "To call a function, answer with nothing but a JSON object "
    '{{"name": ..., "arguments": {{...}}}}. You may call these functions:\n{functions}'
)

Said = Mapping[str, Any]  # a message as templates read it


class TemplateError(ValueError):
    """A chat template that cannot be read, or refuses a conversation."""


@dataclass(frozen=True)
class Chat:
    """How one model is spoken to.

    Attributes:
        model: Reads what the template writes, special tokens by name included.
        template: In Jinja.
        words: What the template may call ``bos_token`` and so on.
        special: Names that no message may hold.
        stop: Strings that end an answer where nothing else does.
    """

    model: LanguageModel
    template: str = PLAIN
    words: Mapping[str, str] = field(default_factory=dict)
    special: tuple[str, ...] = ()
    stop: tuple[str, ...] = (PLAIN_END,)

    def prompt(self, messages: Sequence[Said], tools: Sequence[Said] = ()) -> str:
        """Return a conversation up to where the next answer begins.

        Args:
            messages: What was said.
            tools: Functions that may be called; a template that knows of none is told of them in
                a system message.

        Raises:
            TemplateError: The template refuses the messages.
        """
        if tools and "tools" not in self.template:
            messages, tools = _told(messages, tools), ()
        try:
            return _compiled(self.template).render(
                messages=list(messages),
                tools=list(tools) or None,
                add_generation_prompt=True,
                **self.words,
            )
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:
            raise TemplateError(
                f"the model's chat template refuses the messages: {error}."
            ) from None

    def named(self, text: str) -> str | None:
        """Return the special token that a text names; ``None`` if there is none."""
        return next((name for name in self.special if name in text), None)


def chat_of(model: LanguageModel, source: str | Path | None) -> Chat:
    """Return how a model is spoken to.

    Args:
        model: Answers.
        source: Its checkpoint: a folder, a GGUF file or ORG/NAME on the hub; ``None`` for a model
            that has none, which is spoken to plainly.

    Raises:
        TemplateError: The checkpoint's template cannot be read.
    """
    found = None if source is None else _read(checkpoints.locate(source))
    if found is None:
        return Chat(model)
    template, words = found
    tokenizer = replace(model.tokenizer, special=True)
    end = tokenizer.id_of(words["eos_token"]) if "eos_token" in words else None
    ends = dict.fromkeys([*model.eos_ids, *([] if end is None else [end])])
    spoken = replace(model, tokenizer=tokenizer, eos_ids=tuple(ends))
    _compiled(template)  # says now what is wrong with it
    return Chat(spoken, template, words, _special(tokenizer), ())


def _read(place: Path) -> tuple[str, dict[str, str]] | None:
    """Return the template of a checkpoint and its words; ``None`` if it has none."""
    if place.suffix == ".gguf":
        return _of_gguf(place)
    folder = place if place.is_dir() else place.parent
    jinja, config = (folder / name for name in CHAT_FILES)
    try:
        said = json.loads(config.read_text("utf-8")) if config.exists() else {}
        template = jinja.read_text("utf-8") if jinja.exists() else said.get("chat_template")
    except (OSError, ValueError, AttributeError) as error:
        raise TemplateError(f"the chat template in {folder} cannot be read: {error}.") from error
    if isinstance(template, list):  # several by name
        template = next((one["template"] for one in template if one["name"] == "default"), None)
    if template is None:
        return None
    tokens = {name: _name(value) for name, value in said.items() if name.endswith("_token")}
    return template, {name: value for name, value in tokens.items() if value is not None}


def _name(token: Any) -> str | None:
    """Return a special token's name, said as text or as a record with its ``content``."""
    name = token.get("content") if isinstance(token, dict) else token
    return name if isinstance(name, str) else None


def _of_gguf(file: Path) -> tuple[str, dict[str, str]] | None:
    if importlib.util.find_spec("gguf") is None:
        raise TemplateError(
            f"the chat template of {file} is read through gguf, which is not installed; "
            "pip install 'unison[hf]'."
        )
    import gguf

    fields = gguf.GGUFReader(file).fields
    if "tokenizer.chat_template" not in fields:
        return None
    words = {}
    for name, key in (("bos_token", "bos_token_id"), ("eos_token", "eos_token_id")):
        if f"tokenizer.ggml.{key}" in fields:
            number = int(fields[f"tokenizer.ggml.{key}"].contents())
            words[name] = str(fields["tokenizer.ggml.tokens"].contents(number))
    return str(fields["tokenizer.chat_template"].contents()), words


def _special(tokenizer: Tokenizer) -> tuple[str, ...]:
    added = tokenizers.Tokenizer.from_str(tokenizer.json).get_added_tokens_decoder().values()
    return tuple(token.content for token in added if token.special)


def _told(messages: Sequence[Said], tools: Sequence[Said]) -> list[Said]:
    """Return messages of which the first, of the system, tells of functions."""
    functions = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    words = CALLING.format(functions=functions)
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{words}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


@lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    """Return a template ready to run, in the dialect of Hugging Face checkpoints.

    Raises:
        TemplateError: It is not Jinja.
    """
    room = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    room.filters["tojson"] = _json
    room.globals["raise_exception"] = _refuse
    room.globals["strftime_now"] = lambda form: datetime.now().strftime(form)  # the server's day
    try:
        return room.from_string(template)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the model's chat template is not Jinja: {error}.") from error


class _Generation(Extension):
    """Lets ``generation`` blocks through, which mark for training what the assistant said."""

    tags = {"generation"}  # noqa: RUF012  # as the library declares it

    def parse(self, parser: Parser) -> list[Node]:
        """Return what the block holds."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
