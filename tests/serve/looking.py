"""A language model that looks a value up in its text and knows nothing else."""

import dataclasses

import torch
from tiny import SHAPE

from unison.data import train_tokenizer
from unison.language_model import Defaults, LanguageModel
from unison.process import Absorbing, Sequential

LETTERS = "abcdefgh=?;0123456789\n"
SURE = 0.9  # probability of a value that was looked up


class Lookup(torch.nn.Module):
    """After "k?" says what follows "k=" in the text; anything else is equally likely.

    Of a value of several letters, each is said with certainty ``SURE`` if the text has a document
    for the key. A masked model also needs the letters before: without them it is half as sure.
    """

    remembers = False

    def __init__(self, tokenizer, causal: bool):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.tokenizer, self.causal = tokenizer, causal
        self.config = dataclasses.replace(
            SHAPE,
            vocab_size=tokenizer.vocab_size,
            num_states=tokenizer.vocab_size + 1,
            max_length=128,
            attention="causal" if causal else "bidirectional",
        )

    def forward(self, inputs, sigma, valid=None, earlier=None, view=None):
        rows = [self._row(row) for row in inputs.tolist()]
        logits = torch.stack(rows)
        if view is not None and view.read is not None:
            index = view.read[..., None].expand(-1, -1, logits.shape[-1])
            logits = logits.gather(1, index)
        return logits

    def _row(self, ids):
        size = self.tokenizer.vocab_size
        shown = [self.tokenizer.decode([i]) if i < size else "_" for i in ids]
        text = "".join(shown)
        past = text[1:] + "_" if self.causal else text  # the letter at each place
        answers = torch.full((len(ids), size), 1 / size)
        if "?" in past:
            at = past.rindex("?")
            key = past[at - 1]
            if f"{key}=" in past[:at]:
                value = past[past.rindex(f"{key}=", 0, at) + 2 :].partition(";")[0]
                for n, letter in enumerate(value):
                    place = at + 1 + n
                    if place < len(ids):
                        seen = self.causal or "_" not in past[at + 1 : place]
                        answers[place] = self._law(letter, SURE if seen else SURE / 2)
        return answers.log()

    def _law(self, letter, sure):
        size = self.tokenizer.vocab_size
        law = torch.full((size,), (1 - sure) / (size - 1))
        law[self.tokenizer.encode(letter)[0]] = sure
        return law


def model(causal: bool) -> LanguageModel:
    """The lookup as a left-to-right or a masked model."""
    tokenizer = train_tokenizer("char", [LETTERS])
    process = (Sequential if causal else Absorbing)(tokenizer.vocab_size)
    defaults = Defaults("left_to_right" if causal else "ancestral", 4, 64)
    return LanguageModel(Lookup(tokenizer, causal).eval(), process, tokenizer, defaults)
