"""What does the target say at places that hold no token yet? Probes behind the nodes of a tree.

A probe is a position that is no text: real tokens never see it, it sees its node and what comes
before, and probes of the same chain that stand before it. So one evaluation both verifies a tree
and guesses what follows whichever node is the last to be accepted.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.drafters.ahead import Ahead, last_node
from unison.models import KeyValues, stepping
from unison.models.layers import Hidden
from unison.models.stepping import Step
from unison.models.transformer import Transformer
from unison.speculation.parts import Guess, Outcome, Plan, Scores, Text, rows_of
from unison.speculation.tree import How, Level, Node, Nodes, Tree, committable, grown


def probed(tree: Tree, count: Nodes, chains: int, most: int, room: Node) -> Tree:
    """Return the trees with probes behind nodes; number ``j * chains + e`` is j-th of chain e.

    Args:
        tree: The trees.
        count: Probes of each chain behind each node; none behind what cannot be written.
        chains: Chains behind each node.
        most: Probes there is space for, all nodes of a row together; no row may have more.
        room: Depth of the deepest place of each row that the target can read.
    """
    nodes = tree.tokens.shape[1]
    count = torch.minimum(count, (room[:, None] - tree.depth).clamp(min=0)) * committable(tree)
    each = count.repeat_interleave(chains, dim=1)  # one entry for each chain of each node
    end = each.cumsum(1)
    slot = torch.arange(most, device=count.device).expand(len(count), -1).contiguous()
    chain = torch.searchsorted(end, slot, right=True).clamp(max=each.shape[1] - 1)
    live = slot < end[:, -1:]
    number = torch.where(live, slot - (end - each).gather(1, chain), 0)  # within its chain
    node = torch.where(live, chain // chains, 0)
    before = torch.where(number == 0, node, nodes + slot - 1)
    depth = torch.where(live, tree.depth.gather(1, node) + 1 + number, 1)
    zero = torch.zeros(slot.shape, device=slot.device)
    token = torch.where(live, -1 - (number * chains + chain % chains), -1)
    how = torch.full_like(slot, How.PROBE)
    rank = torch.zeros_like(slot)
    return grown(tree, Level(token, before, rank, how, zero, zero + 1, live), depth)


def behind(tree: Tree, node: Node, chains: int, length: int) -> tuple[Tensor, Bool[Tensor, "B K"]]:
    """Return the probes behind one node of each row, [batch, length, chains], and which exist."""
    found, there = [], []
    last = node[:, None].expand(-1, chains)
    for number in range(length):
        token = -1 - number * chains - torch.arange(chains, device=node.device)
        fits = (tree.parent[:, None] == last[..., None]) & (tree.tokens[:, None] == token[:, None])
        fits = fits & (tree.live & (tree.how == How.PROBE))[:, None]
        last = fits.long().argmax(-1)
        found.append(last)
        there.append(fits.any(-1).all(-1))
    return torch.stack(found, 1), torch.stack(there, 1).cumprod(1).bool()


def bases(tree: Tree, steps: int) -> Int[Tensor, "B N"]:
    """Return the node so many steps above each; the root where there are fewer."""
    node = torch.arange(tree.tokens.shape[1], device=tree.tokens.device).expand_as(tree.tokens)
    for _ in range(steps):
        node = tree.parent.gather(1, node).clamp(min=0)
    return node


def probe_step(
    places: Int[Tensor, "B P"], inputs: int, chains: int, length: int
) -> tuple[Step, Int[Tensor, "B M"]]:
    """Return the reading of probes behind places of a text, and the place that each is behind.

    They come place by place, chain by chain, in order; the text is in the memory's first slots.

    Args:
        places: The places.
        inputs: L, tokens of the text.
        chains: Chains behind each place.
        length: Probes of each chain.
    """
    rows, count = places.shape
    total = count * chains * length
    own = torch.arange(total, device=places.device)
    number, chain = own % length, own // length
    place = places.repeat_interleave(chains * length, dim=1)
    sees_text = torch.arange(inputs, device=places.device) <= place[..., None]
    sees_own = (chain[:, None] == chain) & (number[:, None] >= number)
    sees = torch.cat([sees_text, sees_own.expand(rows, -1, -1)], dim=-1)
    token = -1 - (number * chains + chain % chains)
    slots = (inputs + own).expand(rows, -1)
    return Step(token.expand(rows, -1), place + 1 + number, slots, sees), place


def remembered(
    network: Transformer,
    inputs: Int[Tensor, "B L"],
    memory: KeyValues,
    taps: tuple[int, ...] = (),
) -> Scores:
    """Return what a target thinks of whole texts, without logits; it remembers them.

    Args:
        network: The target.
        inputs: Begin tokens first.
        memory: Room for the texts and more; its first slots are overwritten.
        taps: Streams to return, by block number.
    """
    streams: dict[int, Tensor] = {}

    def on_layer(number: int, h: Hidden) -> Hidden:
        if number in taps:
            streams[number] = h
        return h

    place = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)
    sees = place[:, :, None] >= place[:, None, :]
    with torch.no_grad():
        step = Step(inputs, place, place, sees)
        hidden = stepping.read(network, step, memory, on_layer)
    return Scores(None, hidden, streams)


class Probing:
    """A drafter by probes in the middle of a batch of texts.

    Args:
        chains: Chains behind each node, whose answers are averaged.
        length: Probes of each chain.
        max_length: Most places the target reads.
        ahead: What was learnt from the last probes.
        inputs: Inputs of each row, the root included.
    """

    def __init__(
        self, chains: int, length: int, max_length: int, ahead: Ahead, inputs: Node
    ) -> None:
        self.chains, self.length, self.max_length = chains, length, max_length
        self.ahead, self.inputs = ahead, inputs
        self._wanted: tuple[Nodes, int] | None = None

    def want(self, count: Nodes, most: int) -> None:
        """Say how many probes of a chain the nodes of this round's tree get, and at most in all.

        No node gets more than there are.
        """
        self._wanted = (count.clamp(max=self.length), most)

    def begin(self, text: Text, scores: Scores) -> None:
        """See ``Drafting``: the prompt is read without probes, so nothing is guessed yet."""
        del scores
        self.inputs = text.length

    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """See ``Drafting``."""
        return self.ahead.guess(tree, frontier)

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """See ``Drafting``: none, as it guesses token by token."""
        return torch.zeros(len(plan.depth), 0, 0, dtype=torch.int64, device=self.inputs.device)

    def finish(self, tree: Tree) -> Tree:
        """Return the trees with the probes wanted, or as many as there can be."""
        nodes = tree.tokens.shape[1]
        every = torch.full_like(tree.tokens, self.length), nodes * self.length
        count, most = every if self._wanted is None else self._wanted
        self._wanted = None
        room = self.max_length - self.inputs
        return probed(tree, count, self.chains, most * self.chains, room)

    def observe(self, outcome: Outcome) -> None:
        """Read what the probes behind the last accepted node say."""
        logits = outcome.scores.logits
        if logits is None:
            raise ValueError("a drafter by probes reads the target's logits; score the tree.")
        at, there = behind(outcome.tree, last_node(outcome), self.chains, self.length)
        where = at.flatten(1)[..., None].expand(-1, -1, logits.shape[-1])
        said: Float[Tensor, "B K V"] = logits.gather(1, where).unflatten(1, at.shape[1:]).mean(2)
        self.ahead = Ahead.of(said, there.sum(1))
        self.inputs = self.inputs + rows_of(outcome.count, self.inputs.device)

    def keep(self, rows: Int[Tensor, " R"]) -> "Probing":
        """See ``Drafting``."""
        ahead, inputs = self.ahead.keep(rows), self.inputs[rows]
        return Probing(self.chains, self.length, self.max_length, ahead, inputs)


def opened(chains: int, length: int, target_max: int, ahead: Ahead) -> Probing:
    """Return the drafting of empty texts."""
    return Probing(chains, length, target_max, ahead, torch.zeros_like(ahead.reach))
