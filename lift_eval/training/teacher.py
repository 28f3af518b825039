"""Distillation: the base model, which has read more, teaches the adapted one what to expect of each token.

The teacher is the resident model without its adapter. Its distribution over the next token is known by its most likely
tokens, which are made once for a sample that several epochs have, and may be kept for other runs. Its hidden states are
large, so they are computed anew for each micro-batch.

Sources: soft cross entropy on the most likely tokens as in Cartridges (arXiv 2506.06266), distance of hidden states as
in deep context distillation (arXiv 2503.08727).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lift_eval.errors import CheckpointError
from lift_eval.models.loading import autocast, base_of, body_of
from lift_eval.recipe import TrainingSettings
from lift_eval.training.batching import MicroBatch
from lift_eval.training.forward import (
    inputs_of,
    logits_behind,
    logits_of_columns,
    positions_at_once,
)
from lift_eval.training.samples import Sample

MostLikely = tuple[Tensor, Tensor]
"""A teacher's most likely next tokens, int32, and their log-probabilities, float32, of shape (n, k), on the CPU."""
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Lesson:
    """What the teacher says about the n supervised tokens of a micro-batch, in the order of its labels.

    Attributes:
        ids: The teacher's most likely tokens, shape (n, k), int64.
        log_probabilities: Theirs, at the temperature, shape (n, k), float32.
        temperature: Divides the logits of teacher and student.
        states: The teacher's hidden states in each layer, shape (n, channels); empty where they are not compared.
        magnitudes: Mean absolute value of a sample's states in each layer, shape (n,).
        state_weight: Weight of the states' distance.
    """

    ids: Tensor
    log_probabilities: Tensor
    temperature: float
    states: Sequence[Tensor] = ()
    magnitudes: Sequence[Tensor] = ()
    state_weight: float = 0.0

    def cross_entropy(self, logits: Tensor, start: int) -> Tensor:
        """Sum of the cross entropies between teacher and student over consecutive tokens.

        The teacher's probabilities are not normalised anew over its most likely tokens.

        Args:
            logits: The student's, shape (1, m, vocabulary).
            start: Number of their first token.

        Returns:
            A scalar, float32, in nats.
        """
        scaled = logits.float().flatten(0, -2) / self.temperature
        place = slice(start, start + len(scaled))
        ids, expected = (
            self.ids[place].to(scaled.device),
            self.log_probabilities[place].to(scaled.device).exp(),
        )
        found = scaled.gather(-1, ids) - scaled.logsumexp(-1, keepdim=True)
        return -(expected * found).sum()

    def state_distance(self, states: Sequence[Tensor], predicting: Tensor) -> Tensor:
        """Weighted distance of hidden states, summed over the tokens: the layers' mean of mean |t - s| / mean |t|.

        Args:
            states: The student's in each layer, shape (rows, width, channels).
            predicting: As in `MicroBatch`.

        Returns:
            A scalar, float32.
        """
        distances = [
            ((_at(student, predicting).float() - teacher.float()).abs().mean(-1) / magnitude).sum()
            for student, teacher, magnitude in zip(states, self.states, self.magnitudes, strict=True)
        ]
        return self.state_weight * torch.stack([each.to(predicting.device) for each in distances]).mean()


class Teacher:
    """The resident model without its adapter, which reads the teacher's context of each sample.

    Args:
        model: The model with its adapter.
        base: Lets the model be its base inside.
        settings: The recipe's training group.

    Attributes:
        said: The most likely tokens of each sample that several epochs have, by `identity_of` the sample. They depend
            on the base model and on what identifies a sample alone.

    Raises:
        CheckpointError: If hidden states are to be compared and the model's code does not say where they are.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - PeftModel
        base: Callable[[], AbstractContextManager[None]],
        settings: TrainingSettings,
    ) -> None:
        self._model, self._base, self._settings = model, base, settings
        self.said: dict[str, MostLikely] = {}
        if self.compares_states and body_of(base_of(model)) is None:
            raise CheckpointError(
                f"'training.hidden_state_weight' needs a model whose code comes with transformers, got "
                f"{type(base_of(model)).__name__}; set training.hidden_state_weight=0"
            )

    @property
    def compares_states(self) -> bool:
        """Whether the student's hidden states are to be like the teacher's."""
        return self._settings.hidden_state_weight > 0

    def lesson(self, batch: MicroBatch) -> Lesson:
        """What the teacher says about a micro-batch.

        Args:
            batch: Its samples have no frozen prefix.
        """
        known = all(identity_of(sample) in self.said for sample in batch.samples)
        with nullcontext() if known and not self.compares_states else self._teaching():
            readings = [self._read(sample) for sample in batch.samples]
        likely, states = zip(*readings, strict=True)
        layers = list(zip(*states, strict=True))
        return Lesson(
            torch.cat([ids for ids, _ in likely]).long(),
            torch.cat([log_probabilities for _, log_probabilities in likely]),
            self._settings.temperature,
            [torch.cat(layer) for layer in layers],
            [torch.cat([_magnitude(state) for state in layer]) for layer in layers],
            self._settings.hidden_state_weight,
        )

    @contextmanager
    def _teaching(self) -> Iterator[None]:
        """The base model without dropout inside; the model as it was after."""
        training = self._model.training
        self._model.eval()
        try:
            with torch.no_grad(), self._base():
                yield
        finally:
            self._model.train(training)

    def _read(self, sample: Sample) -> tuple[MostLikely, Sequence[Tensor]]:
        """A sample's most likely tokens, and the hidden states of each layer if they are compared."""
        identity = identity_of(sample)
        likely = self.said.get(identity)
        if likely is not None and not self.compares_states:
            return likely, ()
        base, row = base_of(self._model), _row(sample).to(self._model.device)
        body, inputs = body_of(base), inputs_of(base, row)
        states: Sequence[Tensor] = ()
        with autocast(base.device, base.dtype):
            if body is None:
                likely = self._most_likely([logits_of_columns(base, inputs, row)])
            else:
                output = body(**inputs, output_hidden_states=self.compares_states)
                states = output["hidden_states"] if self.compares_states else ()
                hidden = torch.split(
                    _at(output["last_hidden_state"], row.predicting), positions_at_once(base)
                )
                likely = likely or self._most_likely(
                    logits_behind(base, body, output, piece)[0] for piece in hidden
                )
        if not sample.once:
            self.said[identity] = likely
        return likely, [_at(state, row.predicting) for state in states]

    def _most_likely(self, pieces: Iterable[Tensor]) -> MostLikely:
        """The most likely tokens, from the logits of one piece after the other."""
        ids, log_probabilities = [], []
        for logits in pieces:
            scaled = (logits.float() / self._settings.temperature).log_softmax(-1)
            most = scaled.topk(min(self._settings.teacher_top_k, logits.shape[-1]))
            ids.append(most.indices.int().cpu())
            log_probabilities.append(most.values.cpu())
        return torch.cat(ids), torch.cat(log_probabilities)


def identity_of(sample: Sample) -> str:
    """Hash of what a teacher reads of a sample and predicts: 32 hexadecimal digits."""
    read = _ids(sample).numpy().tobytes()
    return hashlib.blake2b(read, digest_size=16, salt=sample.supervised.to_bytes(8, "little")).hexdigest()


def _ids(sample: Sample) -> Tensor:
    context = sample.context if sample.teacher_context is None else sample.teacher_context
    return torch.cat([context, sample.target])


def _row(sample: Sample) -> MicroBatch:
    """What the teacher reads of a sample, as a row; it predicts what the student predicts."""
    ids = _ids(sample)
    predicting = torch.arange(len(ids) - sample.supervised - 1, len(ids) - 1)
    return MicroBatch(ids[None], predicting, ids[predicting + 1], (sample,))


def _at(states: Tensor, predicting: Tensor) -> Tensor:
    return states.flatten(0, 1)[predicting.to(states.device)]


def _magnitude(state: Tensor) -> Tensor:
    """The mean absolute value of a sample's states in a layer, for each of its tokens."""
    return state.float().abs().mean().clamp(min=_SMALLEST).expand(len(state))
