"""How requests for log-likelihoods are done: encoded before the training, scored by lm-eval's code after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from lm_eval import utils
from lm_eval.models.huggingface import HFLM

from lift_eval.distribution.groups import Group, Request
from lift_eval.harness.grouping import prompt_of
from lift_eval.harness.lost_choices import LostScore
from lift_eval.harness.responses import Respond, count, encode
from lift_eval.lifter.session import LiftedDocument
from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.contents.registry import content_for
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder

DetectBatchSize = Callable[[Sequence[tuple[None, list[int], list[int]]]], int]


class Scoring:
    """Log-likelihoods of one model.

    Args:
        model: lm-eval's model class, which computes them.
        encoder: Of the recipe's prompts.
    """

    def __init__(self, model: HFLM, encoder: PromptEncoder) -> None:
        self._model = model
        # lm-eval turns autocast off around each forward pass unless it has a type of its own.
        model.mixed_precision_dtype = None if model.model.dtype == torch.float32 else model.model.dtype
        self._encoder = encoder
        self._longest = self._longest_searched = self._found_batch_size = 0

    def score(self, group: Group) -> Respond:
        """Scores of continuations, each with whether greedy decoding would give it.

        Args:
            group: The document and its requests.

        Raises:
            DocumentError: If a prompt leaves no room in the model's window.
        """
        pairs = self._encode_all(group)
        contexts = [context for context, _ in pairs]
        questions = [request.question for request in group.requests]
        skipped = {question for question, context in zip(questions, contexts, strict=True) if context.skipped}
        asked = [place for place, question in enumerate(questions) if question not in skipped]

        def respond(session: LiftedDocument) -> list[tuple[float, bool]]:
            scores: list[tuple[float, bool]] = [LostScore()] * len(pairs)
            with session.scoring():
                encoded = [(None, pairs[place][0].ids, pairs[place][1]) for place in asked]
                found = self._model._loglikelihood_tokens(encoded, disable_tqdm=True) if asked else ()
                session.record.prompt_tokens += sum(len(ids) + len(choice) for _, ids, choice in encoded)
                for place, score in zip(asked, found, strict=True):
                    scores[place] = score
            count(session, group, contexts)
            return scores

        return respond

    def score_rolling(self, group: Group) -> Respond:
        """Scores of whole texts, in disjoint windows.

        Args:
            group: The document and its requests.
        """
        texts = [Prompt.around(request.arguments[0], group.document) for request in group.requests]

        def score(request: Request) -> float:
            encoded = [(None, *window) for window in self._windows(request)]
            parts = self._model._loglikelihood_tokens(encoded, disable_tqdm=True)
            return float(sum(score for score, _ in parts))

        def respond(session: LiftedDocument) -> list[float]:
            scores = []
            for request in group.requests:
                aside = session.record.answering_aside(1) if request.aside else nullcontext()
                with aside, session.scoring():
                    scores.append(score(request))
            session.record.count_questions(group.per_question([text.share for text in texts]))
            return scores

        return respond

    def expect(self, kind: str, groups: Sequence[Group]) -> None:
        """Note how long the longest of the requests to come is, for `batch_size`.

        Args:
            kind: ``loglikelihood`` or ``loglikelihood_rolling``.
            groups: They.
        """
        if kind == "loglikelihood_rolling":
            requests = (request for group in groups for request in group.requests)
            encoded = [window for request in requests for window in self._windows(request)]
        else:
            pairs = (pair for group in groups for pair in self._encode_all(group))
            encoded = [(context.ids, ids) for context, ids in pairs]
        self._longest = max((len(context) + len(ids) for context, ids in encoded), default=0)

    def batch_size(self, tokens: int, detect: DetectBatchSize) -> int:
        """The batch size that ``--batch_size auto`` stands for, searched once a run for its longest request.

        Args:
            tokens: Of the longest request of those to be scored now, its continuation included.
            detect: lm-eval's search.
        """
        if tokens > self._longest_searched:
            self._longest_searched = max(tokens, self._longest)
            self._found_batch_size = detect([(None, [0] * self._longest_searched, [])])
        return self._found_batch_size

    def _encode_all(self, group: Group) -> list[tuple[EncodedPrompt, list[int]]]:
        """The contexts of a group's requests, and token ids of their continuations."""
        content = content_for(group.document, self._encoder, group.other)
        return [self._encode(request, group, content) for request in group.requests]

    def _encode(self, request: Request, group: Group, content: Content) -> tuple[EncodedPrompt, list[int]]:
        context, continuation = request.arguments
        if not context:
            ids = self._model.tok_encode(continuation, add_special_tokens=False)
            first = self._model.prefix_token_id
            return EncodedPrompt([first], 0.0), ids if ids[0] != first else ids[1:]
        prompt = prompt_of(request, group, content)
        context_ids, ids = self._model._encode_pair(prompt.text, continuation)
        # lm-eval moves the space at its end to the continuation.
        prompt = replace(prompt, text=prompt.text.rstrip())
        if content.leaves(prompt, len(context_ids), len(ids)):
            return EncodedPrompt(context_ids, prompt.share), ids
        return encode(request, prompt, len(ids), content), ids

    def _windows(self, request: Request) -> list[tuple[list[int], list[int]]]:
        """Token ids of a text in disjoint windows, each as a context and what is scored behind it."""
        windows = utils.get_rolling_token_windows(
            token_list=self._model.tok_encode(request.arguments[0]),
            prefix_token=self._model.prefix_token_id,
            max_seq_len=self._model.max_length,
            context_len=1,
        )
        return [utils.make_disjoint_window(window) for window in windows]
