"""The class of our tasks: lm-eval's own, but that rows may be scored by different metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

Aggregation = Callable[[Sequence[Any]], Any]


class LiftTask(ConfigurableTask):  # type: ignore[misc]
    """A task whose rows come from our own code, and whose metrics may be those of some rows only.

    lm-eval takes a metric that some rows lack for a fault. A score of one type of question is None in all other rows
    here, and is aggregated over those that have it.

    Args:
        config: The content of the task's file.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})
        self._partial: tuple[str, ...] = ()

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None, **_: object) -> None:
        """Have the rows made by the function that ``custom_dataset`` names; called once by lm-eval."""
        self.dataset = self.config.custom_dataset(**(self.config.metadata or {}), **(dataset_kwargs or {}))

    def build_all_requests(self, **how: object) -> None:
        """Make the requests of a run, and find the metrics that some of its rows have and others lack.

        By which metrics a row is scored is not up to the answer.
        """
        super().build_all_requests(**how)
        score = super().process_results
        rows = {instance.doc_id: instance.doc for instance in self.instances}
        counts = Counter(name for row in rows.values() for name in score(dict(row), self._nothing(row)))
        self._partial = tuple(sorted(name for name, count in counts.items() if count < len(rows)))

    def _nothing(self, row: Mapping[str, Any]) -> list[Any]:
        """Results that say nothing."""
        if self.OUTPUT_TYPE == "loglikelihood_rolling":
            return [0.0]
        if self.OUTPUT_TYPE != "multiple_choice":
            return [""]
        return [(0.0, False)] * len(self.doc_to_choice(row))

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Score a row, and say None for what other rows are scored by."""
        scores: dict[str, Any] = super().process_results(doc, results)
        return scores | {name: None for name in self._partial if name not in scores}

    def aggregation(self) -> dict[str, Aggregation]:
        """How the values of each metric become one."""
        whole: dict[str, Aggregation] = super().aggregation()
        return whole | {name: _over_scored(whole.get(name, mean)) for name in self._partial}


def _over_scored(aggregation: Aggregation) -> Aggregation:
    """An aggregation over the values that are there."""
    return lambda values: aggregation([value for value in values if value is not None])
