"""How requests for log-likelihoods are done: encoded before the training, scored by lm-eval's code after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lm_eval import utils
from lm_eval.models.huggingface import HFLM

from lift_eval.distribution.groups import Group, Request
from lift_eval.document import Document
from lift_eval.harness.responses import Respond, encode
from lift_eval.lifter.session import LiftedDocument
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
        self._encoder = encoder
        self._longest = self._longest_searched = self._found_batch_size = 0

    def score(self, group: Group) -> Respond:
        """Scores of continuations, each with whether greedy decoding would give it.

        Args:
            group: The document and its requests.

        Raises:
            DocumentError: If a prompt leaves no room in the model's window.
        """
        pairs = [self._encode(request, group.document) for request in group.requests]

        def respond(session: LiftedDocument) -> list[tuple[float, bool]]:
            with session.scoring():
                encoded = [(None, context.ids, ids) for context, ids in pairs]
                scores = list(self._model._loglikelihood_tokens(encoded, disable_tqdm=True))
            session.count(group.per_question([context.kept for context, _ in pairs]))
            return scores

        return respond

    def score_rolling(self, group: Group) -> Respond:
        """Scores of whole texts, in disjoint windows.

        Args:
            group: The document and its requests.
        """
        texts = [Prompt.around(request.arguments[0], group.document) for request in group.requests]

        def respond(session: LiftedDocument) -> list[float]:
            scores = []
            with session.scoring():
                for request in group.requests:
                    encoded = [(None, *window) for window in self._windows(request)]
                    parts = self._model._loglikelihood_tokens(encoded, disable_tqdm=True)
                    scores.append(sum(score for score, _ in parts))
            session.count(group.per_question([text.share for text in texts]))
            return scores

        return respond

    def expect(self, kind: str, groups: Sequence[Group]) -> None:
        """Note how long the longest of the requests to come is, for `batch_size`.

        Args:
            kind: ``loglikelihood`` or ``loglikelihood_rolling``.
            groups: They.
        """
        requests = [(request, group.document) for group in groups for request in group.requests]
        if kind == "loglikelihood_rolling":
            encoded = [window for request, _ in requests for window in self._windows(request)]
        else:
            pairs = (self._encode(request, document) for request, document in requests)
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

    def _encode(self, request: Request, document: Document | None) -> tuple[EncodedPrompt, list[int]]:
        """Token ids of a context, its middle cut where it is too long, and of its continuation."""
        context, continuation = request.arguments
        if not context:
            ids = self._model.tok_encode(continuation, add_special_tokens=False)
            first = self._model.prefix_token_id
            return EncodedPrompt([first], 0.0), ids if ids[0] != first else ids[1:]
        context_ids, ids = self._model._encode_pair(context, continuation)
        # lm-eval moves the space at its end to the continuation.
        prompt = Prompt.around(context.rstrip(), document)
        closed_book = self._encoder.settings.document == "none" and document is not None
        if closed_book or len(context_ids) > self._encoder.limit(len(ids)):
            return encode(request, prompt, len(ids), self._encoder), ids
        return EncodedPrompt(context_ids, prompt.share), ids

    def _windows(self, request: Request) -> list[tuple[list[int], list[int]]]:
        """Token ids of a text in disjoint windows, each as a context and what is scored behind it."""
        windows = utils.get_rolling_token_windows(
            token_list=self._model.tok_encode(request.arguments[0]),
            prefix_token=self._model.prefix_token_id,
            max_seq_len=self._model.max_length,
            context_len=1,
        )
        return [utils.make_disjoint_window(window) for window in windows]
