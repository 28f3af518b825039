"""Samples of pre-training as trees, and trees packed into rows.

A sample is a tree: one prefix (a text) and branches (questions with answers) that see the prefix and themselves but
not each other, so that many questions share the cost of one text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Branch(NamedTuple):
    """Token ids and the weight of the loss on each (the first is the last of the prefix, with weight 0)."""

    ids: list[int]
    weights: list[float]


@dataclass
class Tree:
    """A prefix, with the weight of the loss on each of its tokens, and branches that continue it."""

    prefix: list[int]
    weights: list[float]
    branches: list[Branch]

    def __len__(self) -> int:
        return max(len(self.prefix) - 1, 0) + sum(len(branch.ids) - 1 for branch in self.branches)


class Batch(NamedTuple):
    """Rows of packed trees; every tensor has shape (rows, row tokens).

    Attributes:
        ids: Input tokens.
        targets: The token that each input token is to predict.
        weights: Weight of that prediction, 0 for none.
        positions: Position in the tree's own sequence.
        tree: Number of the tree within the row, -1 for padding.
        branch: Number of the branch within the tree, 0 for the prefix.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor
    tree: torch.Tensor
    branch: torch.Tensor

    def mask(self) -> torch.Tensor:
        """Who sees whom: shape (rows, 1, row tokens, row tokens), true where the query sees the key."""
        length = self.ids.size(1)
        same_tree = self.tree[:, :, None] == self.tree[:, None, :]
        visible = (self.branch[:, None, :] == 0) | (self.branch[:, :, None] == self.branch[:, None, :])
        causal = torch.ones(length, length, dtype=torch.bool, device=self.ids.device).tril()
        return (same_tree & visible & causal)[:, None]


def pack(trees: list[Tree], rows: int, length: int) -> Batch:
    """Lay trees into rows, the longest first, each into the fullest row that still has room for it."""
    names = Batch._fields
    fill = {"tree": -1}
    out = {
        name: torch.full(
            (rows, length), fill.get(name, 0), dtype=torch.float if name == "weights" else torch.long
        )
        for name in names
    }
    used = [0] * rows
    count = [0] * rows
    for tree in sorted(trees, key=len, reverse=True):
        fits = [row for row in range(rows) if used[row] + len(tree) <= length]
        if not fits:
            continue
        row = max(fits, key=used.__getitem__)
        columns = _columns(tree, count[row])
        here = slice(used[row], used[row] + len(tree))
        for name, column in zip(names, columns, strict=True):
            out[name][row, here] = torch.tensor(column, dtype=out[name].dtype)
        used[row] += len(tree)
        count[row] += 1
    return Batch(**out)


def _columns(tree: Tree, number: int) -> tuple[list[float], ...]:
    columns: tuple[list[float], ...] = ([], [], [], [], [], [])
    start = max(len(tree.prefix) - 1, 0)
    parts = [(0, 0, Branch(tree.prefix, tree.weights))] if start else []
    parts += [(index, start, branch) for index, branch in enumerate(tree.branches, start=1)]
    for index, offset, (ids, weights) in parts:
        size = len(ids) - 1
        values: tuple[Iterable[float], ...] = (
            ids[:-1],
            ids[1:],
            weights[1:],
            range(offset, offset + size),
            [number] * size,
            [index] * size,
        )
        for column, value in zip(columns, values, strict=True):
            column.extend(value)
    return columns
