"""Who works on the documents of a run: this process, the processes launched with it, or workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from lift_eval.distribution.cluster import Cluster
from lift_eval.distribution.groups import Group, Outcome, fingerprint
from lift_eval.distribution.processes import Processes
from lift_eval.distribution.progress import Progress, interruptible
from lift_eval.errors import RecipeError
from lift_eval.record.peak_memory import peak_memory_bytes
from lift_eval.record.progress import QUIET, StageProgress
from lift_eval.record.record import DocumentRecord


class Work(Protocol):
    """Lifts a group's document and does its requests."""

    def __call__(
        self,
        kind: str,
        group: Group,
        *,
        earlier: DocumentRecord | None = None,
        following: Sequence[Group] = (),
        progress: StageProgress = QUIET,
    ) -> Outcome:
        """Do it; see `lift_and_respond`."""


class Dispatcher:
    """Has all groups of a run worked on, each once.

    Args:
        work: What this process does with a group.
        tokens: Counts the tokens of a text, which say how long its document takes.
        kept_in: Folder of finished documents. None means that they are not kept.
        cluster: Workers that do it instead of this process.

    Raises:
        RecipeError: If there are workers and several processes.

    Attributes:
        processes: This process and those launched with it.
        workers: How many work at a time.
        peak_memory_bytes: The most memory that any of them used so far.
    """

    def __init__(
        self, work: Work, tokens: Callable[[str], int], kept_in: str | None, cluster: Cluster | None
    ) -> None:
        self.processes = Processes()
        if cluster is not None and self.processes.count > 1:
            raise RecipeError(
                "model arguments",
                [
                    f"'workers' starts its own workers, but this run was launched as {self.processes.count} "
                    "processes; launch it as one process"
                ],
            )
        self.cluster = cluster
        self.workers = cluster.settings.count if cluster else self.processes.count
        self.peak_memory_bytes = 0
        self._work = work
        self._tokens = tokens
        self._kept_in = kept_in

    def outcomes(
        self, kind: str, groups: Sequence[Group], known: Mapping[str, DocumentRecord], *, quiet: bool
    ) -> list[Outcome]:
        """Have groups worked on; every process of the run must call it.

        Args:
            kind: Of the requests.
            groups: All groups.
            known: Records of earlier in the run, by the documents' hashes.
            quiet: Whether to show no progress.

        Returns:
            The outcomes of all groups, in order.

        Raises:
            Interrupted: When a signal ends the run.
            LiftEvalError: If processes or workers fail, or what they were asked cannot be done.
        """
        outcomes: dict[int, Outcome] = {}
        weights = [self._weight(group) for group in groups] if self.workers > 1 else [0] * len(groups)
        if self.cluster is not None:
            with self._show_progress(groups, quiet=quiet) as progress:
                try:
                    for place, outcome in self.cluster.outcomes(kind, groups, weights, known):
                        outcomes[place] = outcome
                        progress.finished(outcome.record)
                finally:
                    if len(outcomes) < len(groups):
                        self.cluster.close()
            self.peak_memory_bytes = self.cluster.peak_memory_bytes
        else:
            everything = self.processes.count == 1
            share = range(len(groups)) if everything else self.processes.share(fingerprint(groups), weights)
            with self._show_progress([groups[place] for place in share], quiet=quiet) as progress:
                for number, place in enumerate(share, start=1):
                    group = groups[place]
                    outcomes[place] = self._work(
                        kind,
                        group,
                        earlier=known.get(group.document.digest) if group.document else None,
                        following=[groups[later] for later in share[number:]],
                        progress=progress.within,
                    )
                    if group.document is not None:
                        progress.finished(outcomes[place].record)
                for theirs, peak in self.processes.gather((outcomes, peak_memory_bytes())):
                    outcomes.update(theirs)
                    self.peak_memory_bytes = max(self.peak_memory_bytes, peak)
        return [outcomes[place] for place in range(len(groups))]

    @contextmanager
    def _show_progress(self, groups: Sequence[Group], *, quiet: bool) -> Iterator[Progress]:
        """Show the progress over the groups; a signal inside says how to resume."""
        label = self.processes.label
        total = sum(group.document is not None for group in groups)
        progress = Progress(total, label("documents"), quiet=quiet or self.processes.rank > 0)

        def how_to_resume() -> str:
            done = f"stopped, {progress.done} of {label('documents', total)} finished"
            if self._kept_in is None:
                return f"{done}; nothing is kept (store=off), so the same command starts from the beginning"
            return f"{done} and kept in {self._kept_in}; the same command continues from there"

        with interruptible(how_to_resume), closing(progress):
            yield progress

    def _weight(self, group: Group) -> int:
        return self._tokens(group.document.training_text) if group.document else 0
