"""Layouts of short samples: rows, trees as wide as fits, and trees as wide as pays, in turn on the same samples.

Forty samples, the step of the bundled model's recipe, of three lengths of their common beginning.
"""

from __future__ import annotations

import statistics
import sys

import torch
from common.setting import print_table, setting

from lift_eval.adapters import attach
from lift_eval.recipe import LoraSettings
from lift_eval.training.batching import micro_batches
from lift_eval.training.finetune import column_cost
from lift_eval.training.loss import accumulate_gradient
from lift_eval.training.samples import Sample

SAMPLES = 40
MAX_TOKENS = 4096


def samples_of(beginning: int) -> list[Sample]:
    """Samples with a common beginning, a question of 8 to 20 tokens and an answer of 3 to 12."""
    generator = torch.Generator().manual_seed(0)

    def tokens(low: int, high: int) -> torch.Tensor:
        length = int(torch.randint(low, high + 1, (), generator=generator))
        return torch.randint(0, 256, (length,), generator=generator)

    shared = tokens(beginning, beginning)
    return [Sample(torch.cat([shared, tokens(8, 20)]), tokens(3, 12)) for _ in range(SAMPLES)]


def main() -> None:
    """Print the table."""
    with setting(str(sys.modules[__name__].__doc__), pairs=7) as where:
        adapter = LoraSettings(rank=32, alpha=32, targets="all-linear", init=True)
        model = attach(where.model(), adapter, seed=0).train()
        layouts = {
            "rows": (False, 0.0),
            "widest trees": (True, 0.0),
            "trees that pay": (True, column_cost(model)),
        }
        rows = []
        for beginning in (16, 40, 220):
            samples = samples_of(beginning)
            supervised = sum(sample.supervised for sample in samples)
            times: dict[str, list[float]] = {name: [] for name in layouts}
            shapes: dict[str, str] = {}
            losses: dict[str, float] = {}

            def step(
                name: str,
                shapes: dict[str, str] = shapes,
                samples: list[Sample] = samples,
                supervised: int = supervised,
            ) -> float:
                share, cost = layouts[name]
                batches = micro_batches(samples, MAX_TOKENS, share_prefixes=share, column_cost=cost)
                shapes[name] = " + ".join("x".join(map(str, batch.input_ids.shape)) for batch in batches)
                loss = sum(
                    accumulate_gradient(model, batch.to(torch.device(where.device)), supervised)
                    for batch in batches
                )
                model.zero_grad()
                return float(loss)

            for _ in range(where.pairs + 1):
                for name in layouts:
                    spent, losses[name] = where.seconds(lambda name=name: step(name))
                    times[name].append(spent)
            rows += [
                [
                    f"{beginning} + {name}",
                    f"{statistics.median(times[name][1:]) * 1e3:.1f}",
                    shapes[name],
                    f"{losses[name]:.5f}",
                ]
                for name in layouts
            ]
        print_table(
            f"{SAMPLES} short samples, one step",
            ["common tokens + layout", "ms", "rows x width", "loss"],
            rows,
        )


if __name__ == "__main__":
    main()
