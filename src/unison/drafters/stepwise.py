"""How does one left-to-right model draft for another? It reads the growing tree, level by level."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.drafters import vocabulary
from unison.drafters.copying import prompts, written
from unison.drafters.vocabulary import Vocabulary
from unison.prob import truncation
from unison.speculation.parts import Guess, Outcome, Plan, Reading, Scores, Target, Text, gathered
from unison.speculation.tree import Nodes, Tree, as_asked, path_tokens

SPARE = 64  # places kept free for the tree, or half of a shorter context


@dataclass
class Row:
    """One text as the drafting model reads it.

    Attributes:
        inputs: All its inputs, the begin token first, the root last.
        held: How many of the last ones but the root it remembers or is to read now.
        unread: How many of those it is still to read.
    """

    inputs: list[int]
    held: int
    unread: int

    def extend(self, tokens: list[int], read: int) -> None:
        """Hear what was written behind the root; the first ``read`` inputs from it were read."""
        self.inputs += tokens
        self.held += len(tokens)
        self.unread += len(tokens) - read

    def shorten(self, room: int) -> bool:
        """Return whether the text is too long, and then remember its second half alone."""
        if self.held <= room:
            return False
        self.held = self.unread = room // 2
        return True


class Stepwise:
    """The drafting of a batch by a model with a memory of its own.

    Args:
        reading: Of the batch, by the model that drafts.
        words: Its tokens and the target's.
        temperature: Of its law.
        room: Most inputs it remembers before a tree.
        rows: The texts.
    """

    def __init__(
        self,
        reading: Reading,
        words: Vocabulary,
        temperature: float,
        room: int,
        rows: list[Row],
    ) -> None:
        self.reading, self.words = reading, words
        self.temperature, self.room, self.rows = temperature, room, rows
        self._own: Tensor | None = None
        self._said: Tensor | None = None  # logits at the nodes read so far

    @staticmethod
    def of(
        model: Target, target: Target, words: Vocabulary, temperature: float, rows: int
    ) -> "Stepwise":
        """Return the drafting of empty texts by a model, for a target."""
        most = model.max_length
        enough = most >= target.max_length and words.alike
        room = most if enough else most - min(SPARE, most // 2)
        texts = [Row([model.begin], 0, 0) for _ in range(rows)]
        return Stepwise(model.open(rows), words, temperature, room, texts)

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt; it is read with the first guess."""
        del scores
        self._own = self.words.table(text.tokens.device)
        for row, tokens in zip(self.rows, prompts(text), strict=True):
            row.extend(self.words.read(tokens), 0)

    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Return the law behind nodes; reads what was not read yet."""
        said = self._read(tree)
        assert self._own is not None
        logq = vocabulary.common_law(gathered(said, frontier), self._own)
        return Guess(truncation.temper(logq, self.temperature), logq.amax(-1).exp())

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """Never asked."""
        raise ValueError("a model that drafts has laws and no texts to copy; build with Chain.")

    def finish(self, tree: Tree) -> Tree:
        """Return the same tree."""
        return tree

    def observe(self, outcome: Outcome) -> None:
        """Hear what was written; what was accepted and read stays read."""
        known = 0 if self._said is None else self._said.shape[1]
        drafts = self._mine(path_tokens(outcome.tree, outcome.path))
        drafts[:, 0] = 0  # the root was read as what it is
        own = as_asked(outcome.tree, outcome.path)
        held = (own >= 0) & (own < known) & (drafts >= 0)
        path = torch.where(held.long().cumprod(1).bool(), own, -1)
        if known:
            self.reading.commit(path)
        kept = (path >= 0).sum(1).tolist()
        for row, tokens, read in zip(self.rows, written(outcome), kept, strict=True):
            row.extend(self.words.read(tokens), read)
        self._said = None

    def keep(self, rows: Int[Tensor, " R"]) -> "Stepwise":
        """Return the drafting of some rows."""
        texts = [self.rows[row] for row in rows.tolist()]
        reading = self.reading.keep(rows)
        kept = Stepwise(reading, self.words, self.temperature, self.room, texts)
        kept._own = self._own
        return kept

    def _mine(self, tokens: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """Return the drafter's own tokens, -1 for those it lacks; any for a begin token."""
        assert self._own is not None
        return self._own[tokens.clamp(0, len(self._own) - 1)]

    def _read(self, tree: Tree) -> Float[Tensor, "B N W"]:
        """Return logits at all nodes of the tree, in the drafter's own tokens."""
        if self._said is None:
            self._catch_up(tree.tokens.device)
        since = 0 if self._said is None else self._said.shape[1]
        if since < tree.tokens.shape[1]:
            tokens = self._mine(tree.tokens).clamp(min=0)
            roots = [row.inputs[-1] for row in self.rows]
            tokens[:, 0] = torch.tensor(roots, device=tokens.device)
            logits = self.reading.score(tree._replace(tokens=tokens), since).logits
            assert logits is not None
            self._said = logits if self._said is None else torch.cat([self._said, logits], 1)
        assert self._said is not None
        return self._said

    def _catch_up(self, device: torch.device) -> None:
        """Read what is behind: the prompt, or the tokens that no guess was asked for after."""
        length = [0 if row.shorten(self.room) else self.room for row in self.rows]
        if 0 in length:
            self.reading.cut(torch.tensor(length, device=device))
        longest = max((row.unread for row in self.rows), default=0)
        if not longest:
            return
        texts = [row.inputs[len(row.inputs) - 1 - row.unread : -1] for row in self.rows]
        filled = [text + [0] * (longest - len(text)) for text in texts]
        count = torch.tensor([len(text) for text in texts], device=device)
        self.reading.read(torch.tensor(filled, device=device), count)
        for row in self.rows:
            row.unread = 0
