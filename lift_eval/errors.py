"""The errors that lift_eval raises for what a user can mend.

Every message says what was wrong, the rule, the value that broke it and the next step. The command line prints
it as one line and exits with status 2; every other exception is a fault of the program and keeps its traceback.

    LiftEvalError
    ├── RecipeError      a recipe or model argument; carries all faults found, not the first one
    ├── CheckpointError  a model or tokenizer that cannot be loaded, or a device that is not there
    ├── AdapterError     an adapter that does not fit the model
    ├── DocumentError    a data file, a row or a document that cannot be used
    ├── GeneratorError   the maker of question-answer pairs
    ├── TrainingError    fine-tuning that diverges
    ├── WorkerError      another process of the same run
    ├── JudgeError       the judge of answers
    ├── StoreError       the store of adapters, pairs and answers
    └── ResultsError     results files that a report is made from
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class LiftEvalError(Exception):
    """Base of all errors that a user can mend."""


class RecipeError(LiftEvalError):
    """A recipe or model argument breaks a rule.

    Attributes:
        faults: One sentence per fault, in the order of the recipe's keys.
    """

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        """Join the faults into one message that names where they were found.

        Args:
            source: What was read, e.g. ``recipe 'lora'`` or a file name.
            faults: One sentence per fault.
        """
        self.faults = tuple(faults)
        count = "" if len(self.faults) == 1 else f" ({len(self.faults)} faults)"
        super().__init__(f"{source}{count}: {'; '.join(self.faults)}")


class CheckpointError(LiftEvalError):
    """A model or tokenizer cannot be loaded, or the device asked for is not there."""


class AdapterError(LiftEvalError):
    """An adapter does not fit the model."""


class DocumentError(LiftEvalError):
    """A data file, a row or a document cannot be used."""


class GeneratorError(LiftEvalError):
    """The maker of question-answer pairs failed."""


class TrainingError(LiftEvalError):
    """Fine-tuning a document diverges: a loss or a gradient is not finite."""


class WorkerError(LiftEvalError):
    """Another process of the same run has failed or is gone."""


class JudgeError(LiftEvalError):
    """The judge of answers failed."""


class StoreError(LiftEvalError):
    """The store of adapters, pairs and answers cannot be used."""


class ResultsError(LiftEvalError):
    """Results files cannot be read or do not belong together."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the run between two of its steps; the message says how to go on.

    Attributes:
        status: Exit status of the process: 128 and the signal's number, as shells have it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        """Keep the message and the status.

        Args:
            message: One line for a person.
            signal_number: E.g. 2 for Ctrl-C, 15 for the signal TERM.
        """
        super().__init__(message)
        self.status = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant.

    Args:
        name: The unknown name.
        known: The names that exist.

    Returns:
        ``"; did you mean 'x'?"``, or the list of what exists where nothing is near.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"
