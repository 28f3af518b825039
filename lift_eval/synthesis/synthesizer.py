"""The question-answer pairs of each document of a run: found in the store, made now, or already on their way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from lift_eval.document import Document
from lift_eval.record.progress import OnProgress, ignore
from lift_eval.store import Pairs, Store, pairs_key
from lift_eval.synthesis.generators import PairGenerator
from lift_eval.synthesis.pairs import PairYield, make_pairs, stream_pairs
from lift_eval.synthesis.replies import Pair
from lift_eval.synthesis.settings import TRANSPORT, AuxiliarySettings
from lift_eval.synthesis.streaming import PairStream

OF_TRAINING = {"prompts", "template", "system", "encoding", "loss_on"}
"""Settings that say how pairs are trained and change nothing about the pairs themselves."""


@dataclass(frozen=True)
class Synthesis:
    """The pairs of a document, whole or arriving.

    Attributes:
        source: The result, or the stream that ends in it.
        reused: Whether it is from the store.
    """

    source: PairYield | PairStream
    reused: bool = False

    def pairs(self, on_progress: OnProgress = ignore) -> Iterator[Pair]:
        """The pairs in order, each as soon as it is there.

        Args:
            on_progress: Called while a reader waits for them.
        """
        source = self.source
        return iter(source.pairs) if isinstance(source, PairYield) else source.read(on_progress)

    @property
    def waited(self) -> float:
        """Seconds for which training waited for pairs so far."""
        return 0.0 if isinstance(self.source, PairYield) else self.source.waited

    def result(self) -> PairYield:
        """All pairs and their counts, once they are there."""
        return self.source if isinstance(self.source, PairYield) else self.source.result()

    def close(self) -> None:
        """Let no further pairs be made."""
        if isinstance(self.source, PairStream):
            self.source.cancel()


NO_PAIRS = Synthesis(PairYield((), {}))
"""Of recipes without auxiliary tasks."""


class Synthesizer:
    """Makes the pairs of a run's documents.

    Args:
        settings: The recipe's auxiliary group.
        generator: Who makes the pairs; in the background where it is a server.
        store: Where pairs are kept and found again, if anywhere.
    """

    def __init__(self, settings: AuxiliarySettings, generator: PairGenerator, store: Store | None) -> None:
        self.settings, self.generator, self.store = settings, generator, store
        self._ahead: dict[str, PairStream] = {}
        self._latest: PairStream | None = None

    def begin(self, document: Document, seed: int, on_progress: OnProgress = ignore) -> Synthesis:
        """Find a document's pairs or begin to make them; without a server they are made when this returns.

        Args:
            document: The document.
            seed: Of everything random about it.
            on_progress: Called where pairs are made before this returns.

        Raises:
            DocumentError: If the strategy does not fit the document.
            GeneratorError: If the generator fails.
        """
        ahead = self._ahead.pop(document.digest, None)
        if ahead is not None:
            return Synthesis(ahead)
        found = self.find(document, seed)
        if found is not None:
            return Synthesis(found, reused=True)
        if self.settings.in_background:
            self._latest = self._stream(document, seed)
            return Synthesis(self._latest)
        self.generator.on_answered = on_progress
        made = make_pairs(document, self.settings, self.generator, seed)
        self._keep(document, seed, made)
        return Synthesis(made)

    def prefetch(self, document: Document, seed: int) -> None:
        """Make the pairs of a document that comes later, after those begun before; needs a server."""
        if not self.settings.in_background or document.digest in self._ahead:
            return
        if self.find(document, seed) is None:
            self._latest = self._stream(document, seed, after=self._latest)
            self._ahead[document.digest] = self._latest

    def _stream(self, document: Document, seed: int, after: PairStream | None = None) -> PairStream:
        def make(counts: dict[str, int], on_progress: OnProgress) -> Iterator[Pair]:
            self.generator.on_answered = on_progress
            return stream_pairs(document, self.settings, self.generator, seed, counts)

        return PairStream(make, partial(self._keep, document, seed), after)

    def find(self, document: Document, seed: int) -> PairYield | None:
        """A document's pairs in the store; None where it has none."""
        kept = self.store.load(Pairs, self.key(document, seed)) if self.store is not None else None
        return PairYield.from_json(kept.model_dump()) if kept is not None else None

    def _keep(self, document: Document, seed: int, made: PairYield) -> None:
        """Keep pairs for later runs; a generator that gave none is asked again by the next."""
        if self.store is not None and made.pairs:
            about = {"document": document.name, "generator": self.settings.generator}
            self.store.save(self.key(document, seed), Pairs.model_validate(made.as_json()), about)

    def key(self, document: Document, seed: int) -> str:
        """Key of a document's pairs in the store."""
        return pairs_key(
            generator=self.generator.identity,
            settings=self.settings.resolved.model_dump(mode="json", exclude=OF_TRAINING | TRANSPORT),
            document=document.digest,
            seed=seed,
            module=__name__,
        )
