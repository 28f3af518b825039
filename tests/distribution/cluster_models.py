"""What workers of a cluster hold in the tests: imported in each of their processes, so light."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from lift_eval.distribution.groups import Group, Outcome
from lift_eval.errors import CheckpointError, DocumentError
from lift_eval.record.record import DocumentRecord


def first_time(marker: Path) -> bool:
    """Whether nobody has asked before."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Script:
    """No language model: it does what the document's text says.

    Args:
        folder: For what it notes.
    """

    def __init__(self, folder: str, *, loads: bool = True) -> None:
        self.folder = Path(folder)
        if not loads:
            raise CheckpointError("there is no such checkpoint")

    def get_model_info(self) -> dict[str, Any]:
        return {"lift": {}}

    def work(self, kind: str, group: Group, *, earlier: DocumentRecord | None) -> Outcome:
        assert group.document is not None
        order, _, rest = group.document.text.partition(" ")
        with (self.folder / "begun.txt").open("a") as log:
            log.write(f"{group.document.title}\n")
        again = not first_time(self.folder / group.document.title)
        if order == "die" or (order == "die-once" and not again):
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "hang-once" and not again:
            time.sleep(600)
        if order == "wait-until":
            while len((self.folder / "begun.txt").read_text().splitlines()) < int(rest):
                time.sleep(0.05)
        if order == "refuse":
            raise DocumentError(f"row 7: {rest}")
        record = earlier or DocumentRecord(digest=group.document.digest, title=group.document.title)
        record.questions += len(group.requests)
        return Outcome(tuple(f"{kind} {request.row}" for request in group.requests), record)
