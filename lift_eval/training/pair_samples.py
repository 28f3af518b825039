"""Training samples of question-answer pairs, which are trained in stage 2 (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import torch

from lift_eval.document import Document
from lift_eval.errors import DocumentError
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import AuxiliarySettings
from lift_eval.synthesis.replies import Pair
from lift_eval.training.samples import Sample


class PairSamples:
    """Training samples of a document's pairs: the prompt is read, the answer is learned.

    A pair that does not fit its prompt, even without the document, is left out.

    Args:
        document: The document.
        pairs: Its pairs, which may still be arriving.
        encoder: Of the prompts in which questions are asked in the test.
        settings: The recipe's auxiliary group.
        freezes: Whether the document in a prompt is a frozen prefix of the sample.

    Attributes:
        untrainable: Pairs left out so far.
    """

    def __init__(
        self,
        document: Document,
        pairs: Iterable[Pair],
        encoder: PromptEncoder,
        settings: AuxiliarySettings,
        *,
        freezes: bool = False,
    ) -> None:
        self.document, self.encoder, self.settings = document, encoder, settings
        self.freezes = freezes
        self.untrainable = 0
        self._arriving = iter(pairs)
        self._encoded: list[tuple[Sample, ...]] = []

    def epoch(self, number: int) -> Iterator[Sample]:
        """One sample of each pair, in order, as soon as the pair is there; prompts take turns by pair and epoch."""
        place = 0
        while place < len(self._encoded) or self._encode_next():
            samples = self._encoded[place]
            yield samples[(place + number) % len(samples)]
            place += 1

    def _encode_next(self) -> bool:
        """Encode the next pair that can be trained; false where there is none."""
        for pair in self._arriving:
            samples = self.samples(pair)
            if samples:
                self._encoded.append(samples)
                return True
            self.untrainable += 1
        return False

    def samples(self, pair: Pair) -> tuple[Sample, ...]:
        """A pair in each of the recipe's prompts; nothing where it does not fit."""
        try:
            return tuple(self._encode(pair, prompt) for prompt in self.settings.prompts)
        except DocumentError:
            return ()

    def _encode(self, pair: Pair, prompt: str) -> Sample:
        settings, closed_book = self.encoder.settings, prompt == "closed_book"
        render = partial(
            self.encoder.render,
            self.document,
            pair.question,
            None if closed_book else self.settings.template,
            closed_book=closed_book,
            system=self.settings.system,
            thinking=False,
        )
        answer = settings.answer_prefix + pair.answer
        end = [self.encoder.tokenizer.eos_token_id] if settings.eos_after_answer else []
        if self.settings.encoding == "joint":
            encoded = self.encoder.encode(render(answer=answer), reserve=len(end))
            learned = encoded.untruncated - self.encoder.encode(render(), reserve=len(end)).untruncated
            if learned < 1:
                raise DocumentError(f"the answer {pair.answer!r} has no token of its own behind its prompt")
            read, target = encoded.ids[:-learned], encoded.ids[-learned:] + end
        else:
            target = self.encoder.plain_ids(answer) + end
            encoded = self.encoder.encode(render(), reserve=len(target))
            read = encoded.ids
        context = torch.tensor(read, dtype=torch.int64)
        frozen = min(encoded.before_question, max(len(context) - 1, 0)) if self.freezes else 0
        return Sample(context[frozen:], torch.tensor(target), context[:frozen])
