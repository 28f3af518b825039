"""LongBench's subtasks as lm-eval's tasks, asked as the official code asks them."""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance

from lift_eval.benchmarks.longbench import OFFICIAL_STYLE, SUBTASKS
from lift_eval.benchmarks.task import LiftTask
from lift_eval.harness.generation import HALVES, TRUNCATE


class LongBenchTask(LiftTask):
    """A subtask, asked as the official code asks it."""

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **options: Any) -> Any:  # noqa: ANN401
        """The prompt of a row; without chat template and system message in the few-shot and code subtasks."""
        if not SUBTASKS[doc["dataset"]].takes_chat_template:
            options |= {"apply_chat_template": False, "system_instruction": None}
        return super().fewshot_context(doc, num_fewshot, **options)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **options: Any) -> Instance:  # noqa: ANN401
        """The request of a row; in the official style it asks for the official cut, which our model class makes."""
        request = super().construct_requests(doc, ctx, **options)
        if doc["prompt_style"] == OFFICIAL_STYLE:
            prompt, generation = request.arguments
            request.arguments = (prompt, {**generation, TRUNCATE: HALVES})
        return request
