"""A model class whose first worker is killed; apart from the light ones, since it needs all of lm-eval."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from lift_eval.distribution.groups import Outcome
from lift_eval.harness.model import LiftLM
from tests.distribution.cluster_models import first_time


class MortalLM(LiftLM):
    """The model class, in whose first worker a kill ends the training of the first document."""

    def work(self, *arguments: Any, **named: Any) -> Outcome:
        if first_time(Path(self.pretrained).with_name("killed")):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().work(*arguments, **named)
