"""Training samples of question-answer pairs, which are trained in stage 2 (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from lift_eval.document import Document
from lift_eval.errors import DocumentError
from lift_eval.prompts.form import TaskForm, answer_prefix, put_in_form
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder
from lift_eval.recipe import AuxiliarySettings
from lift_eval.settings import DEMONSTRATION_END
from lift_eval.synthesis.base import system_message
from lift_eval.synthesis.replies import Pair
from lift_eval.synthesis.settings import CLOSED_BOOK, OF_TASK, PairPrompt
from lift_eval.training.samples import Sample


class PairSamples:
    """Training samples of a document's pairs: the prompt is read, the answer is learned.

    A pair that does not fit its prompt, even without the document, is left out.

    Args:
        document: The document.
        pairs: Its pairs, which may still be arriving.
        encoder: Of the prompts in which questions are asked in the test.
        settings: The recipe's auxiliary group.
        forms: The task's prompts, one or none; several where several tasks ask about the document.
        freezes: Whether the document in a prompt is a frozen prefix of the sample.
        distills: Whether a teacher reads the pair's passage: in the document's place, or as the system message where
            the recipe's own prompt of pairs has no such place.

    Attributes:
        untrainable: Pairs left out so far.
    """

    def __init__(
        self,
        document: Document,
        pairs: Iterable[Pair],
        encoder: PromptEncoder,
        settings: AuxiliarySettings,
        forms: Sequence[TaskForm] = (),
        *,
        freezes: bool = False,
        distills: bool = False,
    ) -> None:
        self.document, self.encoder, self.settings = document, encoder, settings
        self.forms, self.freezes, self.distills = forms, freezes, distills
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
            return tuple(
                sample for prompt in self.settings.prompts_in_turn for sample in self._in_prompt(pair, prompt)
            )
        except DocumentError:
            return ()

    def _in_prompt(self, pair: Pair, prompt: PairPrompt) -> list[Sample]:
        """A pair in one of the recipe's prompts, which several tasks may put in their own ways."""
        closed_book = prompt in CLOSED_BOOK
        if prompt in OF_TASK and self.forms:
            return [self._as_task(pair, form, closed_book=closed_book) for form in self.forms]
        document = self._passage(pair) if prompt == "passage" else self.document
        return [self._as_recipe(pair, document, closed_book=closed_book)]

    def _as_task(self, pair: Pair, form: TaskForm, *, closed_book: bool) -> Sample:
        def put(document: Document, *, closed_book: bool) -> Prompt:
            prompt = put_in_form(form, document, pair.question, self.encoder, closed_book=closed_book)
            thinking = self.encoder.thinking
            return prompt if thinking is None else replace(prompt, text=thinking.unopened(prompt.text))

        prompt = put(self.document, closed_book=closed_book)
        teachers = put(self._passage(pair), closed_book=False) if self.distills else None
        return self._apart(prompt, answer_prefix(prompt.text) + pair.answer, teachers)

    def _passage(self, pair: Pair) -> Document:
        """The pair's passage, to stand in the document's place; all of it where the pair names none."""
        return Document(pair.passage or self.document.text, self.document.title)

    def _as_recipe(self, pair: Pair, document: Document, *, closed_book: bool) -> Sample:
        settings = self.encoder.settings
        render = partial(
            self.encoder.render,
            document,
            pair.question,
            None if closed_book else self.settings.template,
            closed_book=closed_book,
            system=self.settings.system,
            thinking=False,
        )
        answer = settings.answer_prefix + pair.answer
        if self.settings.encoding == "separate":
            template = None if closed_book else self.settings.template
            return self._apart(
                render(), answer, self._teachers_prompt(pair, template) if self.distills else None
            )
        end = self._end
        encoded = self.encoder.encode(render(answer=answer), reserve=len(end))
        learned = encoded.untruncated - self.encoder.encode(render(), reserve=len(end)).untruncated
        if learned < 1:
            raise DocumentError(f"the answer {pair.answer!r} has no token of its own behind its prompt")
        return self._sample(encoded, encoded.ids[:-learned], encoded.ids[-learned:] + end)

    def _teachers_prompt(self, pair: Pair, template: str | None) -> Prompt:
        """The recipe's own prompt with the pair's passage, in front of it where its template has no place for that."""
        passage = self._passage(pair)
        render = partial(self.encoder.render, passage, pair.question, thinking=False)
        if template is None:
            return render(system=self.settings.system)
        prompt = render(template, system=system_message(passage.title, passage.text))
        if passage.text.strip() in prompt.text:
            return prompt
        # The chat template takes no system message, so the passage begins the user's.
        return render(system_message("{{ title }}", "{{ document }}") + template)

    def _apart(self, prompt: Prompt, answer: str, teachers: Prompt | None) -> Sample:
        """A sample of a prompt and an answer that are encoded apart, and of a teacher's prompt where there is one."""
        target = self.encoder.plain_ids(answer) + self._end
        encoded = self.encoder.encode(prompt, reserve=len(target))
        sample = self._sample(encoded, encoded.ids, target)
        if teachers is None:
            return sample
        read = self.encoder.encode(teachers, reserve=len(target)).ids
        return replace(sample, teacher_context=torch.tensor(read, dtype=torch.int64))

    @property
    def _end(self) -> list[int]:
        """What ends an answer: the end token, or what ends the answers of the demonstrations before it."""
        if self.encoder.settings.eos_after_answer:
            return [self.encoder.tokenizer.eos_token_id]
        return self.encoder.plain_ids(DEMONSTRATION_END) if self.encoder.settings.demonstrations else []

    def _sample(self, encoded: EncodedPrompt, read: list[int], target: list[int]) -> Sample:
        if self.settings.loss_on == "text":
            return Sample(torch.empty(0, dtype=torch.int64), torch.tensor(read + target))
        context = torch.tensor(read, dtype=torch.int64)
        frozen = min(encoded.before_question, max(len(context) - 1, 0)) if self.freezes else 0
        return Sample(context[frozen:], torch.tensor(target), context[:frozen])
