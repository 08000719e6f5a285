"""What can be fetched from the Hugging Face hub by name?

The only door to ``datasets`` and ``transformers`` in this room. A data set is written
``hf:NAME[:CONFIG][@SPLIT][#COLUMN]``, for example ``hf:roneneldan/TinyStories`` or
``hf:Salesforce/wikitext:wikitext-2-raw-v1@validation#text``; a tokenizer is ``hf:NAME``.
"""

import importlib
import importlib.util
import re
from types import ModuleType
from typing import NamedTuple

from unison.data.documents import CorpusError, Document

PREFIX = "hf:"
_SYNTAX = re.compile(
    r"hf:(?P<name>[\w.\-]+(?:/[\w.\-]+)?)"
    r"(?::(?P<config>[^:@#]+))?(?:@(?P<split>[^@#]+))?(?:#(?P<column>[^#]+))?"
)
_TEXT_COLUMN = "text"


class HubDataset(NamedTuple):
    """A data set on the hub.

    Attributes:
        name: ``owner/name``, or a legacy name without an owner.
        config: Configuration, when it has several.
        split: Split, in the syntax of ``datasets``; ``train[:1%]`` works.
        column: The column that holds the text; ``None`` finds it.
    """

    name: str
    config: str | None
    split: str
    column: str | None


def parse(source: str) -> HubDataset:
    """Read ``hf:NAME[:CONFIG][@SPLIT][#COLUMN]``; the split defaults to ``train``.

    Raises:
        CorpusError: The text does not have that form.
    """
    match = _SYNTAX.fullmatch(source)
    if match is None:
        raise CorpusError(
            f"{source!r} is not a hub data set; write hf:NAME[:CONFIG][@SPLIT][#COLUMN], "
            "for example hf:roneneldan/TinyStories@train."
        )
    return HubDataset(match["name"], match["config"], match["split"] or "train", match["column"])


def require(module: str, purpose: str) -> None:
    """Refuse before any work starts when an optional library is missing.

    Raises:
        CorpusError: It is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise CorpusError(
            f"{purpose} needs the package {module!r}, which is not installed; "
            "run: pip install 'unison[hf]'"
        )


def _open(module: str, purpose: str) -> ModuleType:
    require(module, purpose)
    return importlib.import_module(module)


def _text_column(source: str, wanted: str | None, columns: list[str]) -> str:
    if wanted is None and len(columns) == 1:
        return columns[0]
    column = wanted or _TEXT_COLUMN
    if column not in columns:
        raise CorpusError(
            f"{source}: there is no column {column!r}; it has {', '.join(columns)}. "
            "Name the one that holds the text: hf:NAME#COLUMN."
        )
    return column


def documents(source: str) -> list[Document]:
    """Download, or open from the hub's own cache, one data set: a document per row.

    Raises:
        CorpusError: The name is malformed or unknown, the column is missing or not text, the
            network failed, or ``datasets`` is not installed.
    """
    wanted = parse(source)
    datasets = _open("datasets", source)
    try:
        table = datasets.load_dataset(wanted.name, wanted.config, split=wanted.split)
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{source}: the hub data set could not be loaded ({error}). Check the name, the "
            "configuration and the split, and that the network is reachable."
        ) from error
    column = _text_column(source, wanted.column, list(table.column_names))
    texts = table[column]
    if any(not isinstance(text, str) for text in texts):
        raise CorpusError(f"{source}: column {column!r} holds values that are not text.")
    return [Document(f"{source}/{i}", text) for i, text in enumerate(texts) if text.strip()]


def tokenizer_json(source: str) -> str:
    """Return the ``tokenizer.json`` text of a model on the hub, given as ``hf:NAME``.

    Raises:
        CorpusError: The model has no fast tokenizer, could not be fetched, or ``transformers`` is
            not installed.
    """
    name = source.removeprefix(PREFIX)
    transformers = _open("transformers", source)
    try:
        loaded = transformers.AutoTokenizer.from_pretrained(name, use_fast=True)
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{source}: the hub tokenizer could not be loaded ({error}). Check the name and that "
            "the network is reachable, or give the path of a tokenizer.json."
        ) from error
    if not loaded.is_fast:
        raise CorpusError(
            f"{source}: this model has no tokenizer.json; choose a model with a fast tokenizer."
        )
    return loaded.backend_tokenizer.to_str()
