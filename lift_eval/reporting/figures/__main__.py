"""A process that draws: each line of standard input is a question as JSON, and each line of output its answer.

{"figure": {...}}  ->  {"page": SVG in the ink of the page, "paper": SVG for pixels}
{"paper": "..."}   ->  {"png": its pixels in Base64}
"""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any

from lift_eval.reporting.figures.drawing import draw, on_page, on_paper
from lift_eval.reporting.figures.figure import Figure
from lift_eval.reporting.figures.pixels import png


def answer(question: dict[str, Any]) -> dict[str, str]:
    """The answer to a question."""
    if "figure" in question:
        picture = draw(Figure(**question["figure"]))
        return {"page": on_page(picture), "paper": on_paper(picture)}
    return {"png": base64.b64encode(png(question["paper"])).decode()}


def main() -> None:
    """Answer until there are no more questions.

    The output must contain only answers, but lets-plot writes remarks to it about lines of one point.
    """
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as output:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        for line in sys.stdin.buffer:
            output.write(json.dumps(answer(json.loads(line))) + "\n")
            output.flush()


if __name__ == "__main__":
    main()
