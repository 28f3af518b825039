"""lm-eval without a language model: a model that echoes, and a task manager of our tasks alone."""

from __future__ import annotations

from pathlib import Path

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

TASKS = Path(__file__).parents[2] / "tasks"


class Echo(LM):
    """A model that answers with a fixed text and remembers what it was asked."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.answer = answer
        self.requests: list[Instance] = []

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        self.requests = list(requests)
        return [self.answer] * len(requests)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError


def manager(**metadata: object) -> TaskManager:
    return TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
