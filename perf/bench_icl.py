"""ICL: the same requests through lm-eval's model `lift` with the recipe icl and through its own `hf`, in turn.

Both models have the same weights and are in memory from the start. Where a prompt fits both read the same tokens, and
their answers must be equal. Where it does not, `hf` cuts its beginning and `lift` its middle, so only times compare.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import Any

from common.setting import Paired, Setting, console, document_of, print_pairs, setting, text_of

NEW_TOKENS = 32
QUESTIONS = 6
CASES = (
    ("prompts that fit", 3_000, "prompt"),
    ("cut, truncate: document", 12_000, "document"),
    ("cut, truncate: prompt", 12_000, "prompt"),
)
"""What is asked about, the document's tokens, and how `lift` cuts."""


def requests_of(where: Setting, tokens: int) -> list[Any]:
    """Requests of lm-eval about one document."""
    from lm_eval.api.instance import Instance

    text, words = document_of(where.tokenizer(), tokens).text, text_of(QUESTIONS, seed=1).split()
    questions = [
        f"What of {number} {' '.join(words[number : 2 * number + 4])}?" for number in range(QUESTIONS)
    ]
    settings = {"until": [], "max_gen_toks": NEW_TOKENS, "do_sample": False}
    return [
        Instance(
            request_type="generate_until",
            doc={"context": text, "question": question},
            arguments=(f"{text}\n\nQuestion: {question}\nAnswer:", settings),
            idx=number,
            metadata=("icl", number, 1),
        )
        for number, question in enumerate(questions)
    ]


def compare(where: Setting, name: str, tokens: int, truncate: str) -> list[str]:
    """Answer on both sides in turn; returns a row of the table of times."""
    from lm_eval.models.huggingface import HFLM

    from lift_eval.harness.model import LiftLM

    recipe = {"prompt.truncate": truncate, "precision.dtype": where.dtype}
    lift = LiftLM(str(where.checkpoint), "icl", device=where.device, store="off", **recipe)
    peer = HFLM(pretrained=where.model(), tokenizer=where.tokenizer(), batch_size=1)
    requests = requests_of(where, tokens)
    ours, theirs, equal = [], [], 0
    for model in (lift, peer):
        model.generate_until(requests[:1], disable_tqdm=True)  # warm up
    for _ in range(where.pairs):
        spent, found = where.seconds(lambda: lift.generate_until(requests, disable_tqdm=True))
        ours.append(spent)
        spent, expected = where.seconds(lambda: peer.generate_until(requests, disable_tqdm=True))
        theirs.append(spent)
        equal = sum(one == other for one, other in zip(found, expected, strict=True))
    fits = name == CASES[0][0]
    row = Paired(ours, theirs).row(name, f"{equal} of {QUESTIONS} answers" if fits else "cut differently")
    console.print("  ".join(row))  # a sign of life
    return row


def main() -> None:
    """Print the table, or say in one line that there is no lm-eval."""
    if importlib.util.find_spec("lm_eval") is None:
        console.print("ICL against lm-eval's hf: left out, lm_eval is not installed")
        return
    with setting(str(sys.modules[__name__].__doc__)) as where:
        logging.disable(logging.WARNING)
        rows = [compare(where, *case) for case in CASES]
        print_pairs(f"ICL, {QUESTIONS} questions about a document, {NEW_TOKENS} new tokens each", rows)


if __name__ == "__main__":
    main()
