"""What would a diffusion model write into the next block?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode import Strategy, decode, start
from unison.decode.fitting import Facts, Fitting
from unison.drafters import vocabulary
from unison.drafters.ahead import Ahead
from unison.drafters.copying import prompts, written
from unison.drafters.vocabulary import Vocabulary, between
from unison.language_model import LanguageModel
from unison.prob import rng, truncation
from unison.prob.rng import Key
from unison.process import PROCESSES, Process, Sequential
from unison.speculation.parts import Guess, Outcome, Plan, Scores, Target, Text
from unison.speculation.tree import Nodes, Tree
from unison.types import Denoiser, Focus, Mask

_STREAM = 0x5EED  # of the strategy's choices: the same in every round, and nobody else's

Places = Int[Tensor, "B K"]


@dataclass(frozen=True)
class BlockDiffusion:
    """Draft by filling a block of holes behind the text with a diffusion model.

    Speculative diffusion decoding (Christopher et al., 2024, arXiv:2408.05636). What is written
    has the target's law, whatever the diffusion model believes.

    One evaluation says a law of each place that does not depend on the other places' tokens: one
    that drafts may be drawn from. Filled by a strategy, a block's joint law is out of reach: its
    tokens then count as sure. A strategy that draws does so from random numbers that no other part
    uses and that are the same for every round, so that drafts follow from the text alone.

    Attributes:
        process: What the model undoes.
        denoiser: Returns the model's belief, given where a canvas is no padding.
        max_length: Its longest canvas, in tokens; of longer texts it sees the end.
        block: Places to fill.
        strategy: How they are filled; ``None`` for the laws of one evaluation.
        temperature: Of those laws.
        vocabulary: Its tokens and the target's; ``None`` where they are the same.
    """

    copies: ClassVar[bool] = False
    process: Process = field(repr=False)
    denoiser: Callable[[Mask | None], Denoiser] = field(repr=False)
    max_length: int
    block: int = 8
    strategy: Strategy | None = None
    temperature: float = 1.0
    vocabulary: Vocabulary | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.process, Sequential):
            raise ValueError(
                "this model is autoregressive and fills no blocks; draft with Smaller instead."
            )
        if not 1 <= self.block < self.max_length:
            raise ValueError(
                f"block must be at least 1 and leave room for text on the model's longest canvas "
                f"of {self.max_length} tokens, got {self.block}."
            )
        name = _name(self.process)
        if self.strategy is not None and name not in self.strategy.processes:
            raise ValueError(
                f"{type(self.strategy).__name__} undoes {', '.join(self.strategy.processes)} "
                f"processes and this model's is {name}; choose another strategy."
            )
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}.")

    @staticmethod
    def of(
        draft: LanguageModel,
        target: LanguageModel | None = None,
        block: int = 8,
        strategy: Strategy | None = None,
        temperature: float = 1.0,
    ) -> "BlockDiffusion":
        """Return the drafter of a diffusion model.

        Args:
            draft: The model.
            target: Whose tokens are matched by spelling if need be; ``None`` for the same.
            block: Places to fill.
            strategy: How; ``None`` for the laws of one evaluation.
            temperature: Of those laws.

        Raises:
            ValueError: The model is autoregressive, knows too few of the target's tokens, or does
                not go with the strategy.
        """
        if isinstance(strategy, Fitting):
            config = draft.network.config
            anchor = "answer" if _name(draft.process) == "uniform" else "canvas"
            facts = Facts(_name(draft.process), draft.eos_ids, config.block_length, anchor)
            strategy = strategy.fitted(facts)
        words = None if target is None else between(target, draft)
        most = draft.max_length
        return BlockDiffusion(
            draft.process, draft.denoiser, most, block, strategy, temperature, words
        )

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> "BlockDiffusionDrafting":
        """Return the drafting of empty texts.

        Raises:
            ValueError: The vocabularies differ and were not matched.
        """
        sizes = target.vocab_size, self.process.vocab_size
        if self.vocabulary is None and sizes[0] != sizes[1]:
            raise ValueError(
                f"the target has {sizes[0]} tokens and the drafter {sizes[1]}; match them with "
                "BlockDiffusion.of(draft, target)."
            )
        words = Vocabulary.same(sizes[0]) if self.vocabulary is None else self.vocabulary
        words.fit(*sizes)
        return BlockDiffusionDrafting(self, words, [[] for _ in range(rows)])


class BlockDiffusionDrafting:
    """The drafting of a batch.

    Args:
        drafter: The settings.
        words: The drafter's tokens and the target's.
        rows: The texts, in the drafter's tokens.
    """

    def __init__(self, drafter: BlockDiffusion, words: Vocabulary, rows: list[list[int]]) -> None:
        self.drafter, self.words, self.rows = drafter, words, rows
        self._own = words.table(torch.device("cpu"))
        self._ahead: Ahead | None = None

    @property
    def ahead(self) -> Ahead:
        """The laws of the places behind the text; evaluates the model once a round."""
        if self._ahead is None:
            self._ahead = self._drafted()
        return self._ahead

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        del scores
        self._own = self._own.to(text.tokens.device)
        for row, tokens in zip(self.rows, prompts(text), strict=True):
            row += self.words.read(tokens)

    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Return the laws after nodes, by their depth alone."""
        return self.ahead.guess(tree, frontier)

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """Never asked."""
        raise ValueError("a diffusion model drafts laws of the next tokens; build with Chain.")

    def finish(self, tree: Tree) -> Tree:
        """Return the same tree."""
        return tree

    def observe(self, outcome: Outcome) -> None:
        """Hear what was written."""
        for row, tokens in zip(self.rows, written(outcome), strict=True):
            row += self.words.read(tokens)
        self._ahead = None

    def keep(self, rows: Int[Tensor, " R"]) -> "BlockDiffusionDrafting":
        """Return the drafting of some rows."""
        kept = [self.rows[row] for row in rows.tolist()]
        drafting = BlockDiffusionDrafting(self.drafter, self.words, kept)
        drafting._own = self._own
        return drafting

    def _drafted(self) -> Ahead:
        how, device = self.drafter, self._own.device
        seen = [row[-(how.max_length - how.block) :] for row in self.rows]
        size = torch.tensor([len(row) for row in seen], device=device)
        length = max(len(row) for row in seen) + how.block
        filled = [row + [0] * (length - len(row)) for row in seen]
        place = torch.arange(length, device=device)
        valid = place < size[:, None] + how.block
        given = (place < size[:, None]) | ~valid
        seed = rng.derived(torch.full_like(size, _STREAM), 0)
        tokens = torch.tensor(filled, dtype=torch.int64, device=device)
        canvas = start(how.process, tokens, given, Key(seed), valid)
        denoise = how.denoiser(None if bool(valid.all()) else valid)
        where = size[:, None] + torch.arange(how.block, device=device)
        if how.strategy is None:
            time = torch.ones(len(size), dtype=torch.float64, device=device)
            focus = Focus(where, torch.stack([size, size + how.block], dim=1))
            return self._told(denoise(canvas.tokens, time, focus))
        text = decode(how.strategy, how.process, denoise, canvas, Key(seed)).tokens
        return self._sure(text.gather(1, where))

    def _told(self, belief: Float[Tensor, "B K W"]) -> Ahead:
        """Return the laws of one evaluation."""
        logq = truncation.temper(vocabulary.common_law(belief, self._own), self.drafter.temperature)
        return Ahead(logq, torch.full_like(belief[:, 0, 0], belief.shape[1], dtype=torch.int64))

    def _sure(self, tokens: Places) -> Ahead:
        """Return laws that are sure of tokens, up to the first that the target lacks."""
        theirs = torch.full((self.words.size + 1,), -1, device=tokens.device)
        known = self._own >= 0
        number = torch.arange(len(self._own), device=tokens.device)
        theirs = theirs.scatter(0, torch.where(known, self._own, self.words.size), number)
        theirs[-1] = -1  # what is no token, such as a hole left open
        guesses = theirs[tokens.clamp(0, self.words.size)]
        reach = (guesses >= 0).long().cumprod(1).sum(1)
        shape = (*guesses.shape, len(self._own))
        never = torch.full(shape, -torch.inf, dtype=torch.float64, device=tokens.device)
        return Ahead(never.scatter(2, guesses.clamp(min=0)[..., None], 0.0), reach)


def _name(process: Process) -> str:
    """Return a process's name in ``PROCESSES``."""
    return next(name for name, kind in PROCESSES.items() if isinstance(process, kind))
