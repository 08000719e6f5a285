"""Whole continuations, merged where they begin alike."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.speculation.choosing import Chooser
from unison.speculation.parts import Drafting, GoOn, Plan
from unison.speculation.tree import How, Level, Tree, grown, sized


@dataclass(frozen=True)
class Given:
    """The trie of the continuations a drafter copies, the likeliest first where room is short.

    As suffix decoding (Oliaro et al., 2024, arXiv:2411.04975) and n-gram pools (Fu et al., 2024,
    arXiv:2402.02057) verify theirs. Nothing is drawn.
    """

    copies: ClassVar[bool] = True
    branches: ClassVar[bool] = True

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        return frozenset({How.FIXED})

    def size(self, depth: int) -> int:
        """Return what a few continuations of that depth take."""
        return 8 * depth

    def build(
        self, root: Tree, drafting: Drafting, plan: Plan, choose: Chooser, go_on: GoOn
    ) -> Tree:
        """Return the trie."""
        del choose
        going = go_on(root).tolist()
        texts = drafting.texts(plan).tolist()
        rows = [
            _trie([text[:depth] for text in row] if on else [], nodes)
            for row, on, depth, nodes in zip(texts, going, *plan, strict=True)
        ]
        return _planted(root, rows)


Link = tuple[int, int, int]  # token, parent, rank


def _trie(texts: list[list[int]], room: int) -> list[Link]:
    """Return the nodes beside the root, number 0, parents first."""
    links: list[Link] = []
    children: list[dict[int, int]] = [{}]
    for text in texts:
        at = 0
        for token in text:
            if token < 0 or (token not in children[at] and len(links) >= room):
                break
            if token not in children[at]:
                links.append((token, at, len(children[at])))
                children[at][token] = len(links)
                children.append({})
            at = children[at][token]
    return links


def _planted(root: Tree, rows: list[list[Link]]) -> Tree:
    """Return the trees of all rows, one node at a time deep: parents come first by number."""
    most = max((len(row) for row in rows), default=0)
    if most == 0:
        return root
    filled = [row + [(-1, 0, 0)] * (most - len(row)) for row in rows]
    links = torch.tensor(filled, dtype=torch.int64, device=root.tokens.device)
    token, parent, rank = links.unbind(-1)
    live = token >= 0
    depth = torch.zeros_like(token)
    heights = [_depths(row) for row in rows]
    for number, row in enumerate(heights):
        depth[number, : len(row)] = torch.tensor(row, device=depth.device)
    zero = torch.zeros(token.shape, device=token.device)
    level = Level(token, parent, rank, torch.full_like(token, How.FIXED), zero, zero + 1, live)
    tree = grown(root, level, depth)
    width = 1 + max(rank for row in rows for _, _, rank in row)
    return sized(tree, width, max(max(row, default=0) for row in heights))


def _depths(row: list[Link]) -> list[int]:
    depths = [0]
    for _, parent, _ in row:
        depths.append(depths[parent] + 1)
    return depths[1:]
