"""What a person sees of a run while it goes on, and how to go on after it was stopped."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tqdm import tqdm

from lift_eval.errors import Interrupted
from lift_eval.record.progress import StageProgress
from lift_eval.record.record import DocumentRecord


class Progress:
    """A bar on standard error that counts documents, and a line for each that is finished.

    Args:
        total: How many documents there are.
        label: What the bar says before it.
        quiet: Whether to show nothing.

    Attributes:
        within: A line on the document at hand.
    """

    def __init__(self, total: int, label: str = "documents", *, quiet: bool = False) -> None:
        self._bar = tqdm(total=total, desc=label, unit="doc", disable=quiet, dynamic_ncols=True)
        self.within = StageProgress(quiet=quiet)
        self.done = 0
        self.total = total

    def finished(self, record: DocumentRecord) -> None:
        """Count a document and say what became of it."""
        self.done += 1
        self._bar.update()
        if not self._bar.disable:
            tqdm.write(record.summary(), file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


@contextmanager
def interruptible(say: Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C and the signal TERM end what is inside between two Python instructions, and say how to go on.

    TERM, which batch systems and launchers send, is only caught where nobody else does and Python can: in the main
    thread.

    Args:
        say: Gives the message for the person who wants to go on.

    Raises:
        Interrupted: When the process gets one of the signals.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(say(), number)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Interrupted):
            raise
        raise Interrupted(say(), signal.SIGINT) from None
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
