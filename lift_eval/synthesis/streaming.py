"""Pairs made in the background, while the model trains (the pipeline of the second implementation).

Only a server makes pairs beside the training; a generator on the same machine would take turns with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from lift_eval.record.progress import OnProgress, ignore
from lift_eval.synthesis.pairs import PairYield
from lift_eval.synthesis.replies import Pair

LOOK_SECONDS = 0.5
"""Seconds between two looks of a waiting reader at the progress."""


class PairStream:
    """The pairs of one document as they arrive; may be read several times, each time from the first.

    Args:
        make: Makes the pairs, fills in their counts by the time it ends, and tells its progress. Runs in a thread of
            its own.
        keep: Called there with the result once it is whole.
        after: A stream that must end first, so that it does not wait for this one's requests.

    Attributes:
        waited: Seconds for which readers waited for pairs.
    """

    def __init__(
        self,
        make: Callable[[dict[str, int], OnProgress], Iterator[Pair]],
        keep: Callable[[PairYield], None],
        after: PairStream | None = None,
    ) -> None:
        self.waited = 0.0
        self._make, self._keep, self._after = make, keep, after
        self._pairs: list[Pair] = []
        self._counts: dict[str, int] = {}
        self._progress = 0, 0, ""
        self._ended = self._cancelled = False
        self._error: BaseException | None = None
        self._news = threading.Condition()
        self._took = 0.0
        self._thread = threading.Thread(target=self._run, name="pair-stream", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Pair]:
        """Yield the pairs in order; see `read`."""
        return self.read()

    def read(self, on_progress: OnProgress = ignore) -> Iterator[Pair]:
        """Yield the pairs in order, waiting for those to come.

        Args:
            on_progress: Called while it waits, in the reader's thread.

        Raises:
            LiftEvalError: What went wrong in making them, after those made before.
        """
        place, ended = 0, False
        while not ended:
            fresh, ended = self._wait(place, on_progress)
            yield from fresh
            place += len(fresh)
        if self._error is not None:
            raise self._error

    def _wait(self, place: int, on_progress: OnProgress) -> tuple[list[Pair], bool]:
        """Pairs from a place on, at least one unless there are no more, and whether there are no more."""
        began = time.perf_counter()
        with self._news:
            while not (self._ended or len(self._pairs) > place):
                if any(self._progress):
                    on_progress(*self._progress)
                self._news.wait(LOOK_SECONDS)
            found = self._pairs[place:], self._ended
        self.waited += time.perf_counter() - began
        return found

    def result(self) -> PairYield:
        """All pairs and their counts, once they are there.

        Raises:
            LiftEvalError: What went wrong in making them.
        """
        pairs = tuple(self)
        return PairYield(pairs, self._counts, self._took)

    def _tell(self, done: int, total: int, note: str) -> None:
        self._progress = done, total, note

    def cancel(self) -> None:
        """Let no further pairs be made; requests under way may still end."""
        self._cancelled = True

    def _run(self) -> None:
        if self._after is not None:
            self._after._thread.join()
            self._after = None
        began = time.perf_counter()
        try:
            for pair in self._make(self._counts, self._tell):
                with self._news:
                    self._pairs.append(pair)
                    self._news.notify_all()
                if self._cancelled:
                    break
            else:
                self._took = time.perf_counter() - began
                self._keep(PairYield(tuple(self._pairs), self._counts, self._took))
        except BaseException as error:  # the reader's thread raises it
            self._error = error
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()
