"""Fixed cost of a document: ours (reset, optimizer) and the peer's (load, adapter, Trainer, optimizer), in turn.

The building of samples, most of it tokenization, is the same work on both sides and is shown apart.
"""

from __future__ import annotations

import statistics
import sys

import torch
from common.setting import Paired, document_of, print_pairs, print_table, setting
from peers import trainer

from lift_eval import load_recipe
from lift_eval.adapters.state import AdapterState
from lift_eval.training.finetune import finetune
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample
from lift_eval.training.stages import build_epochs

TOKENS = 24_000


def main() -> None:
    """Print the tables."""
    with setting(str(sys.modules[__name__].__doc__)) as where:
        recipe = load_recipe("lora", {"training.context_epochs": 1})
        lifter = where.lifter(recipe)
        initial = AdapterState.capture(lifter.model)
        document = document_of(lifter.tokenizer, TOKENS)
        nothing: list[list[Sample]] = [[]]

        def build() -> list[list[Sample]]:
            pairs = PairSamples(document, (), lifter.encoder, recipe.auxiliary)
            return [
                list(epoch)
                for epoch in build_epochs(document, recipe, lifter.encoder, pairs, torch.Generator())
            ]

        def begin() -> object:
            return finetune(
                lifter.model, nothing, recipe.training, compute=recipe.compute, share_prefixes=True,
                column_cost=lifter.column_cost, generator=torch.Generator(),
            )  # fmt: skip

        def reload() -> object:
            model = trainer.load(
                where.checkpoint, recipe.adapter, seed=0, device=where.device, dtype=where.torch_dtype
            )
            return trainer.prepare(model, recipe.training)

        parts: dict[str, list[float]] = {"reset": [], "samples": [], "optimizer": []}
        works = {"reset": lambda: initial.restore(lifter.model), "samples": build, "optimizer": begin}
        ours, theirs = [], []
        for _ in range(where.pairs + 1):
            spent = {name: where.seconds(work)[0] for name, work in works.items()}
            for name in parts:
                parts[name].append(spent[name])
            ours.append(spent["reset"] + spent["optimizer"])
            theirs.append(where.seconds(reload)[0])
        whole = where.seconds(lambda: finetune(
            lifter.model, build(), recipe.training, compute=recipe.compute, share_prefixes=True,
            column_cost=lifter.column_cost, generator=torch.Generator(),
        ))[0]  # fmt: skip
        print_pairs(
            f"Fixed cost of a document of {TOKENS} tokens",
            [Paired(ours[1:], theirs[1:]).row("reset, optimizer", "nothing to compare")],
        )
        print_table(
            "Ours by part",
            ["", "ms", "of one epoch's training"],
            [
                [
                    name,
                    f"{statistics.median(times[1:]) * 1e3:.2f}",
                    f"{statistics.median(times[1:]) / whole:.2%}",
                ]
                for name, times in parts.items()
            ],
        )


if __name__ == "__main__":
    main()
