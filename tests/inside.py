"""Targets and drafters of a moment, for tests of drafters that live inside their target."""

import torch
from tiny import randomise

from unison.drafters.hidden_transfer import HiddenTransfer
from unison.drafters.medusa import Medusa
from unison.drafters.ppd import Ppd
from unison.drafters.preparing import prepared
from unison.engine.reading import NetworkTarget
from unison.models import Transformer, TransformerConfig
from unison.prob.rng import Key
from unison.speculation.loop import Ask, Speculation, speculate
from unison.speculation.parts import Text

KINDS = {
    "medusa": Medusa(heads=3, places=6),
    "medusa, own outputs": Medusa(heads=2, layers=2, own_output=True, places=6),
    "ppd": Ppd(tokens=2, places=6),
    "ppd, two members": Ppd(tokens=2, members=2, places=6),
    "hidden transfer": HiddenTransfer(blocks=(0.0, 0.5), places=6),
    "hidden transfer at one block": HiddenTransfer(blocks=(0.5, 0.5, 0.5), places=6),
}


def network(vocab: int = 6, seed: int = 0, **changes) -> Transformer:
    """A causal transformer of random weights; its begin token is the state after the last."""
    settings = {
        "vocab_size": vocab,
        "num_states": vocab + 1,
        "hidden": 16,
        "depth": 4,
        "heads": 2,
        "max_length": 64,
        "attention": "causal",
        "time": "none",
        "norm": "rms",
    }
    made = Transformer(TransformerConfig(**settings | changes))
    randomise(made, 2.0, seed)
    return made.eval()


def fitted(kind, net: Transformer, seed: int = 1, strength: float = 1.0):
    """A target and a drafter of random weights inside it."""
    module = kind.module(net)
    randomise(module, strength, seed)
    drafter = kind.drafter(module.eval(), net)
    return prepared(NetworkTarget(net, net.config.vocab_size), drafter), drafter


def asked(begin: int, prompts: list[list[int]], room: int, seed: int = 0) -> Ask:
    """Prompts to write behind."""
    most = max(map(len, prompts)) + 1
    rows = [[begin, *p, *[0] * (most - 1 - len(p))] for p in prompts]
    length = torch.tensor([len(p) + 1 for p in prompts])
    seeds = torch.arange(len(prompts)) + seed
    return Ask(Text(torch.tensor(rows), length), [room] * len(prompts), seeds)


def greedy(net: Transformer, prompt: list[int], count: int) -> list[int]:
    """Plain decoding, every time from the beginning, by the network's own way through."""
    text = [net.config.vocab_size, *prompt]
    for _ in range(count):
        with torch.no_grad():
            text.append(int(net(torch.tensor([text]), torch.zeros(1))[0, -1].argmax()))
    return text[1 + len(prompt) :]


def said(how: Speculation, target: NetworkTarget, prompts: list[list[int]], room: int):
    """Everything about what is written."""
    return speculate(how, target, asked(target.begin, prompts, room))


def trained(kind, net: Transformer, batches, lr: float):
    """Weights after one step of Adam for each batch, and the first and last lesson."""
    torch.manual_seed(0)
    module = kind.module(net)
    optimiser = torch.optim.Adam(module.parameters(), lr=lr)
    lessons = []
    for step, inputs in enumerate(batches):
        lesson = kind.lesson(module, net, inputs, Key(torch.arange(len(inputs)), step))
        optimiser.zero_grad()
        (lesson.loss.total / lesson.loss.count).backward()
        optimiser.step()
        lessons.append(lesson)
    return module, lessons
