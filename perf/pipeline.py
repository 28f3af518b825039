"""Time to the first answer with a server that makes question-answer pairs, with and without LIFT's pipeline.

A server on loopback replies to each request after a fixed pause, like a hosted model. Two generated documents are
lifted one after the other with one pair per sentence in one epoch, and asked one question each:

    waiting    all pairs of a document are there before its training begins
    streaming  training begins with the first pairs
    both       and the next document's pairs are made meanwhile

The model is random and tiny: what counts here is who waits for whom.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lift_eval.document import Document, document_seed  # noqa: E402 - the checkout, installed or not
from lift_eval.lifter.lifter import Lifter  # noqa: E402
from lift_eval.recipe import load_recipe  # noqa: E402
from lift_eval.store import Store  # noqa: E402
from lift_eval.tiny.world import documents  # noqa: E402
from tests.synthesis.server import Reply, chat_server  # noqa: E402
from tests.tiny_models import tiny_model, tiny_tokenizer  # noqa: E402

PAUSE = 0.5
SLOTS = 8
WORDS = 500
RECIPE = {
    "training.context_epochs": 0,
    "training.joint_epochs": 1,
    "training.joint_segments": False,
    "training.samples_per_step": 8,
    "training.schedule": "constant",  # so that training starts on the first pairs
    "training.segment_tokens": 256,
    "training.stride_tokens": 128,
    "auxiliary.strategy": "sentences",
    "auxiliary.pairs": 1,
    "auxiliary.generator": "openai:bench",
    "auxiliary.request": "{{ sentence }}",
    "auxiliary.batch": SLOTS,
    "auxiliary.prompts": ["closed_book"],
    "prompt.max_tokens": 600,
    "decoding.max_new_tokens": 8,
}


def reply(request: dict[str, Any], _: int) -> Reply:
    """One pair about the sentence, after the pause."""
    sentence = request["messages"][0]["content"]
    pair = {"question": f"What of this: {sentence}", "answer": sentence[:20]}
    return Reply(json.dumps({"pairs": [pair]}), delay=PAUSE)


def seconds_to_first_answers(texts: list[Document], way: str) -> list[float]:
    """From the beginning of each document to its first answer."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        lifter = Lifter(tiny_model(), tiny_tokenizer(), load_recipe("lora", RECIPE), store=Store(folder))
        for document, following in zip(texts, [*texts[1:], None], strict=True):
            began = time.perf_counter()
            if way == "waiting":
                seed = document_seed(lifter.recipe.seed, document)
                lifter.synthesizer.begin(document, seed).result()
            with lifter.session(document) as session:
                session.train(following=following if way == "both" else None)
                session.answer(["Who was the first captain?"])
            seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Print the figures."""
    logging.disable(logging.INFO)
    texts = [Document(made.article.text, made.article.title) for made in documents("dev", 2, words=WORDS)]
    with chat_server(reply) as server:
        os.environ["OPENAI_BASE_URL"] = server.url
        os.environ.setdefault("OPENAI_API_KEY", "none")
        seconds_to_first_answers([Document("Warm up. " * 8)], "both")
        print(f"{PAUSE} s for each reply, {SLOTS} at once, two documents of {WORDS} words")
        for way in ("waiting", "streaming", "both"):
            first, second = seconds_to_first_answers(texts, way)
            print(f"{way:10} first answer after {first:5.1f} s, of the second document after {second:5.1f} s")


if __name__ == "__main__":
    main()
