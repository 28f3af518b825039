"""A small untrained checkpoint, to try the whole line on real documents without a download.

    python -m lift_eval.tiny.blank --out runs/blank --text shortdep_qa.jsonl

Its answers are noise until a document is fine-tuned into it, and mostly noise after: it shows that every part works
and what it costs, not what LIFT gains.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 4096
BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer on texts; it encodes every other text too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def write_checkpoint(out: Path, texts: Iterable[str], *, window: int = 8192, seed: int = 0) -> None:
    """Write a randomly initialised two-layer Llama and its tokenizer.

    Args:
        out: Folder of the checkpoint.
        texts: What the tokenizer is trained on.
        window: Most tokens that the model attends to.
        seed: Of the weights.
    """
    tokenizer = train_tokenizer(texts)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=window,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    """Write the checkpoint that the arguments describe."""
    parser = argparse.ArgumentParser(description="Write a small untrained checkpoint.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="files to train the tokenizer on")
    parser.add_argument("--window", type=int, default=8192, help="window of the model in tokens")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights")
    parsed = parser.parse_args()
    texts = (path.read_text(encoding="utf-8") for path in parsed.text)
    write_checkpoint(parsed.out, texts, window=parsed.window, seed=parsed.seed)


if __name__ == "__main__":
    main()
