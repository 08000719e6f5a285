"""How does a tree grow from the laws of a drafter? Level by level, within what was planned."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.speculation import tree as trees
from unison.speculation.parts import Drafting, GoOn, Guess, Plan, rows_of
from unison.speculation.tree import Level, Node, Nodes, Tree, nobody


class Front(NamedTuple):
    """The nodes that get children next.

    Attributes:
        nodes: Their numbers.
        live: False where a row has fewer.
        room: Nodes each row may still add.
        level: Their depth; 0 at the root.
        state: What the builder knows of each node, last dimension first.
    """

    nodes: Nodes
    live: Bool[Tensor, "B F"]
    room: Node
    level: int
    state: Float[Tensor, "S B F"]


class Sprouts(NamedTuple):
    """The children of a front.

    Attributes:
        level: The children.
        width: The largest number of siblings.
        drawn: Whether some were drawn, so that a verifier needs the laws.
        onward: Columns of the level that get children in turn; ``None`` for all.
        state: What the builder knows of each child.
    """

    level: Level
    width: int
    drawn: bool
    onward: tuple[int, ...] | None = None
    state: Float[Tensor, "S B C"] | None = None


Sprout = Callable[[Front, Guess], Sprouts]


def grow(root: Tree, drafting: Drafting, plan: Plan, go_on: GoOn, sprout: Sprout) -> Tree:
    """Return trees grown level by level.

    Args:
        root: Trees of a root alone.
        drafting: Guesses.
        plan: How much.
        go_on: Asked before each level which rows draft on.
        sprout: Makes the children of a front, within its room.
    """
    tree, device = root, root.tokens.device
    depth, room = rows_of(plan.depth, device), rows_of(plan.nodes, device)
    nodes = torch.zeros_like(root.tokens)
    state = torch.zeros(2, *nodes.shape, dtype=torch.float64, device=device)
    live = root.live
    for level in range(max(plan.depth, default=0)):
        live = live & (go_on(tree) & (depth > level) & (room > 0))[:, None]
        if nobody(live) or nodes.shape[1] == 0:
            break
        guess = drafting.guess(tree, nodes)
        tree = noted(tree, nodes, guess)
        new = sprout(Front(nodes, live, room, level, state), guess)
        if new.drawn:
            tree = trees.told(tree, nodes, guess.logq)
        first = tree.tokens.shape[1]
        tree = trees.sized(trees.grown(tree, new.level), new.width, level + 1)
        room = room - new.level.live.sum(1)
        columns = range(new.level.tokens.shape[1]) if new.onward is None else new.onward
        column = torch.tensor(list(columns), dtype=torch.int64, device=device)
        nodes = (first + column).expand(len(root.tokens), -1)
        live = new.level.live[:, column]
        state = state.new_zeros(2, *nodes.shape) if new.state is None else new.state[..., column]
    return compacted(tree, tree.live, plan)


def noted(tree: Tree, nodes: Nodes, guess: Guess) -> Tree:
    """Return the trees with what a guess says about the nodes it was made at."""
    return tree if guess.judged is None else trees.judged(tree, nodes, guess.judged)


def within(live: Bool[Tensor, "B C"], room: Node) -> Bool[Tensor, "B C"]:
    """Return the first nodes of each row, as many as there is room for."""
    return live & (live.long().cumsum(1) <= room[:, None])


def spread(per_front: Tensor, width: int) -> Tensor:
    """Return what belongs to the nodes of a front, for each of their children: rank by rank."""
    return per_front.repeat(1, width)


def compacted(tree: Tree, keep: Bool[Tensor, "B N"], plan: Plan) -> Tree:
    """Return the trees without the nodes that are not kept.

    On a CPU they are as small as can be; elsewhere that would wait for the device.

    Args:
        tree: The trees.
        keep: Nodes to keep, with all that come before them.
        plan: Kept by each row.
    """
    most = min(tree.tokens.shape[1], 1 + max(plan.nodes, default=0))
    if keep.device.type != "cpu":
        return tree if most == tree.tokens.shape[1] else trees.pruned(tree, keep, most)
    if bool(keep.all()):
        return tree
    tree = trees.pruned(tree, keep, int(keep.sum(1).max()))
    return tree._replace(height=int(torch.where(tree.live, tree.depth, 0).max()))


def children(
    front: Front, guess: Guess, tokens: Int[Tensor, "B F K"], how: int, live: Bool[Tensor, "B C"]
) -> Level:
    """Return the K children of each node of a front, those of rank 0 first.

    A child of rank 0 has the drafter's own confidence, and the others what is left of it: no
    estimate depends on a drawn token.

    Args:
        front: The parents.
        guess: What comes after them.
        tokens: By rank.
        how: How all of them were chosen.
        live: Which of them there are; tokens that cannot come are left out besides.
    """
    width = tokens.shape[2]
    token = flat(tokens)
    rank = torch.arange(width, device=token.device).repeat_interleave(tokens.shape[1])
    rank = rank.expand_as(token)
    logq = flat(guess.logq.gather(2, tokens))
    if guess.confidence is None:
        sure = torch.ones_like(logq)
    else:
        first = spread(guess.confidence, width)
        sure = torch.where(rank == 0, first, 1 - first)
    possible = live & (logq > -torch.inf)
    parent = spread(front.nodes, width)
    logq = torch.where(possible, logq, 0.0)
    return Level(token, parent, rank, torch.full_like(token, how), logq, sure, possible)


def flat(by_parent: Tensor) -> Tensor:
    """Return [batch, parents, ranks] as [batch, children], rank by rank."""
    return by_parent.transpose(1, 2).flatten(1)


def branching_of(branching: tuple[int, ...], level: int) -> int:
    """Return how many children the nodes of a level get; the last number goes on for ever."""
    return branching[min(level, len(branching) - 1)]


def size_of(branching: tuple[int, ...], depth: int) -> int:
    """Return how many nodes, beside the root, a tree of such branching has; at most 1 << 20."""
    total, level = 0, 1
    for i in range(depth):
        level = min(level * branching_of(branching, i), 1 << 20)
        total = min(total + level, 1 << 20)
    return total


def checked_branching(branching: tuple[int, ...]) -> None:
    """Refuse a branching that is none.

    Raises:
        ValueError: It is empty, or a number is below 1.
    """
    if not branching or min(branching) < 1:
        raise ValueError(
            f"branching must be some numbers of at least 1, got {branching}; (3, 2, 1) gives the "
            "root 3 children, these 2 each, and all below 1."
        )
