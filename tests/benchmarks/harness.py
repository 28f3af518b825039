"""lm-eval without a language model: a model that echoes, and a task manager of our tasks alone."""

from __future__ import annotations

from pathlib import Path

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

TASKS = Path(__file__).parents[2] / "tasks"
NEW_TOKENS = {
    "lift_originals": 48,
    "lift_forgetting": 16,
    "loogle_shortqa": 300,
    "loogle_longqa": 500,
    "loogle_cloze": 50,
    "loogle_summarization": 500,
    **dict.fromkeys((f"loogle_v2_{source}" for source in ("code", "finance", "game", "law")), 512),
    "lift_longbench_narrativeqa": 128,
    "lift_longbench_musique": 32,
    "lift_longbench_gov_report": 512,
    "lift_longbench_qmsum": 512,
    "lift_longbench_passage_retrieval_en": 32,
    "lift_longbench_hotpotqa": 32,
    "lift_longbench_2wikimqa": 32,
    "lift_longbench_qasper": 128,
    "lift_longbench_multifieldqa_en": 64,
    "lift_longbench_multi_news": 512,
    "lift_longbench_trec": 64,
    "lift_longbench_multifieldqa_zh": 64,
    "lift_longbench_dureader": 128,
    "lift_longbench_vcsum": 512,
    "lift_longbench_triviaqa": 32,
    "lift_longbench_samsum": 128,
    "lift_longbench_lsht": 64,
    "lift_longbench_passage_count": 32,
    "lift_longbench_passage_retrieval_zh": 32,
    "lift_longbench_lcc": 64,
    "lift_longbench_repobench-p": 64,
    "lift_niah": 50,
    "lift_squad": 48,
    "quality_generate": 16,
    "lift_tiny_shortqa": 12,
    "lift_tiny_longqa": 12,
}

CHOICES = ("quality_choices",)
"""Tasks that compare how likely given answers are."""

WHOLE_TEXTS = ("lift_document_loss",)
"""Tasks that ask nothing, but how likely a text is."""

DOCUMENT = "Ada was born in Oran. {She} moved to Lyon. {{Then}} she founded a yard, in 1901."


RECIPE = {
    "recipe": "lora",
    "store": "off",
    "adapter.rank": 4,
    "training.context_epochs": 1,
    "training.segment_tokens": 512,
    "training.stride_tokens": 512,
    "precision.quantization": "none",
    "precision.dtype": "float32",
}
"""Model arguments of a quick run of the model class."""


def loogle_v2_row(source: str, **changes: object) -> dict[str, object]:
    """A row of LooGLE v2, as its files have it."""
    return {
        "id": source,
        "source": source,
        "task": "Reading",
        "type": "single",
        "instruction": "Read this.\n{context}\n{question}\n{options}\nSay 'The correct answer is'.",
        "context": DOCUMENT,
        "question": "Where was Ada born?",
        "options": ["A. Oran", "B. Lyon"],
        "answer": "A",
        **changes,
    }


def quality_row(**question: object) -> dict[str, object]:
    """A row of QuALITY, as its files have it, with an easy question and a difficult one."""
    asked = {"question": "Where was Ada born?", "options": ["Lyon", "Oran", "Nice", "Brest"], "gold_label": 2}
    return {
        "article_id": "1",
        "set_unique_id": "1_X",
        "title": "Ada",
        "article": DOCUMENT,
        "questions": [{**asked, "difficult": 0, **question}, {**asked, "difficult": 1, **question}],
    }


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


def small(data_dir: Path, **metadata: object) -> TaskManager:
    grid = {"lengths": [200], "depths": [0, 0.5], "samples": 1, "documents": 2}
    return manager(data_dir=str(data_dir), **{**grid, **metadata})
