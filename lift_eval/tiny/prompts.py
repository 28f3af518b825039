"""The texts that the bundled model was trained on: what the recipe and the tasks must send byte for byte.

Every prompt ends in a token that the continuation does not join: an answer follows with its leading space, a
generated pair starts a line.
"""

from __future__ import annotations

WINDOW = 256
ELLIPSIS = "..."
LABELS = ("Question", "Answer", "Passage", "Write")

DOCUMENT = "{title}\n{context}"
QUESTION = "\nQuestion: {question}\nAnswer:"
GENERATION = "Passage: {passage}\nWrite a question and its answer.\n"
PAIR = "Question: {question}\nAnswer: {answer}"
NO_PAIR = "None"

ALL = (QUESTION, GENERATION, PAIR, NO_PAIR, ELLIPSIS)
