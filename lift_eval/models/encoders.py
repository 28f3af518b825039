"""Small checkpoints beside the base model that help to choose what a prompt holds: of words, or of passages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, MODEL_MAPPING

from lift_eval.document import Span
from lift_eval.errors import CheckpointError
from lift_eval.models.faults import checkpoint_errors
from lift_eval.models.loading import context_window, load_tokenizer, refuse_missing

BATCH = 16
"""Texts in one forward pass."""


class _Encoder:
    """A checkpoint on the CPU, in float32.

    Args:
        key: The recipe's key that names the checkpoint.
        name: Folder or Hub name.

    Raises:
        CheckpointError: If it is not there, or of another kind.
    """

    auto: Any
    kinds: Any
    what: str

    def __init__(self, key: str, name: str) -> None:
        refuse_missing(name, key)
        with checkpoint_errors(f"{key}='{name}' cannot be loaded", f"give the folder of {self.what}"):
            config = AutoConfig.from_pretrained(name)
            if type(config) not in self.kinds or getattr(config, "is_encoder_decoder", False):
                raise CheckpointError(f"{key}='{name}' must be {self.what}, got '{config.model_type}'")
            model, report = self.auto.from_pretrained(
                name, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
        if report["missing_keys"]:
            raise CheckpointError(
                f"{key}='{name}' must be {self.what}, but it holds other weights: "
                f"{min(report['missing_keys'])} is missing; give another checkpoint"
            )
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = load_tokenizer(name)
        self.window = min(context_window(config, self.tokenizer), self.tokenizer.model_max_length)

    def _encode(self, texts: Sequence[str], **how: bool) -> Any:  # noqa: ANN401 - BatchEncoding
        return self.tokenizer(
            texts,
            truncation=True,
            max_length=self.window,
            padding=True,
            padding_side="right",
            return_tensors="pt",
            **how,
        )


class TokenClassifier(_Encoder):
    """Says of each token how likely it is to be kept where a text is compressed (LLMLingua-2, arXiv 2403.12968)."""

    auto, kinds = AutoModelForTokenClassification, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
    what = "a token classifier of two labels, the second of which means that a token is kept (LLMLingua-2)"

    def __init__(self, key: str, name: str) -> None:
        super().__init__(key, name)
        if self.model.config.num_labels != 2:
            raise CheckpointError(
                f"{key}='{name}' must be {self.what}, got one of {self.model.config.num_labels} labels"
            )

    @torch.inference_mode()
    def __call__(self, text: str) -> list[tuple[Span, float]]:
        """Each token's characters and its probability to be kept; a long text is read in windows."""
        encoded = self._encode([text], return_overflowing_tokens=True, return_offsets_mapping=True)
        found: list[tuple[Span, float]] = []
        rows = zip(*(encoded[name].split(BATCH) for name in ("input_ids", "attention_mask")), strict=True)
        kept = torch.cat(
            [self.model(ids, attention_mask=mask).logits.softmax(-1)[..., 1] for ids, mask in rows]
        )
        for spans, row in zip(encoded["offset_mapping"].tolist(), kept.tolist(), strict=True):
            found += [((start, stop), value) for (start, stop), value in zip(spans, row, strict=True)]
        return [(span, value) for span, value in found if span[1] > span[0]]  # without special tokens


class TextEmbedder(_Encoder):
    """Embeds texts: the mean of the last hidden states, of length 1, so that a product is a cosine."""

    auto, kinds, what = AutoModel, MODEL_MAPPING, "an embedding model whose token states are averaged"

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings, shape (texts, channels), float32; a text is read up to the checkpoint's window."""
        return torch.cat(list(self._embedded(texts)))

    def _embedded(self, texts: Sequence[str]) -> Iterator[Tensor]:
        for first in range(0, len(texts), BATCH):
            encoded = self._encode(texts[first : first + BATCH])
            mask = encoded["attention_mask"]
            states = self.model(encoded["input_ids"], attention_mask=mask).last_hidden_state
            mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
            yield torch.nn.functional.normalize(mean, dim=-1)
