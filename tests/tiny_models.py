"""Tiny random models of every supported architecture and a byte-level tokenizer, built in memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, get_tensor_name_map
from gguf.quants import quantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

BOS, EOS, PAD, START, END = "<bos>", "<eos>", "<pad>", "<|start|>", "<|end|>"
SPECIAL_TOKENS = (BOS, EOS, PAD, START, END)
VOCABULARY = 264  # 256 bytes, the special tokens, and a few ids that no text uses

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)

COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16384,
    "initializer_range": 0.15,  # large enough for sharp attention and distinct logits
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
_SLIDING: dict[str, Any] = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}

# Heads of the Gemmas and of Qwen 3 are wider than hidden / heads, as in the real ones.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "mistral": {"model_type": "mistral", "sliding_window": 16},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
    "gemma2": {"model_type": "gemma2", "head_dim": 16, "query_pre_attn_scalar": 16, **_SLIDING},
    "gemma3": {"model_type": "gemma3_text", "head_dim": 16, "query_pre_attn_scalar": 16, **_SLIDING},
    "phi3": {"model_type": "phi3", "original_max_position_embeddings": 16384},
}


def tiny_config(architecture: str) -> Any:
    """The configuration of a 2-layer model, hidden size 32, 4 query heads and 2 key-value heads."""
    return AutoConfig.for_model(**{**COMMON, **ARCHITECTURES[architecture]})


def tiny_model(
    architecture: str = "llama",
    *,
    attn_implementation: str | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> PreTrainedModel:
    """A random model in evaluation mode; the same seed gives the same weights on every machine.

    Args:
        architecture: A key of `ARCHITECTURES`.
        attn_implementation: "sdpa" or "eager"; by default what transformers takes (Gemma 2 has only "eager").
        dtype: Of the weights.
        seed: Of the weights; the global random state is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            tiny_config(architecture), attn_implementation=attn_implementation, dtype=torch.float32
        )
        for name, parameter in model.named_parameters():
            if name.endswith(".bias") or "norm" in name:
                # Transformers sets these to constants, which would hide mistakes in using them.
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    model.generation_config.do_sample = False
    return model.to(dtype).eval()


def tiny_tokenizer(*, adds_bos: bool = False, chat_template: bool = False) -> PreTrainedTokenizerFast:
    """One token per byte of UTF-8.

    Args:
        adds_bos: Put ``<bos>`` before every text, as the tokenizers of Llama and Gemma do.
        chat_template: Give it a chat template (``<|start|>role ... <|end|>``); without, it has none.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, backend.token_to_id(BOS))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=16384,
    )
    if chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save_checkpoint(
    folder: Path, architecture: str = "llama", *, chat_template: bool = False, seed: int = 0
) -> Path:
    """Write a model and its tokenizer as ``from_pretrained`` reads them; return the folder."""
    tiny_model(architecture, seed=seed).save_pretrained(folder)
    tiny_tokenizer(chat_template=chat_template).save_pretrained(folder)
    return folder


def write_gguf(
    path: Path,
    *,
    kind: str = "F32",
    architecture: str = "llama",
    tokenizer: str = "default",
    eot: str | None = None,
    adds_bos: bool | None = None,
) -> Path:
    """Write the tiny Llama and its tokenizer as one GGUF file, as llama.cpp's converter does; return the path.

    Args:
        path: The file.
        kind: Of the matrices: ``F32``, or a quantized format.
        architecture: What the file says that it holds.
        tokenizer: How the file says that its tokenizer splits text.
        eot: The token that ends a turn. None means that the file names none.
        adds_bos: Whether the file says that ``<bos>`` comes first. None means that it does not say.
    """
    model, config = tiny_model(), tiny_config("llama")
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    tokens = tiny_tokenizer().convert_ids_to_tokens(range(256 + len(SPECIAL_TOKENS)))
    tokens += ["Ġt", "Ġa", "<unused>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if 256 <= place < 261 else 1 for place in range(VOCABULARY)])  # control, normal
    writer.add_token_merges(["Ġ t", "Ġ a"])  # a file without any is not read
    writer.add_chat_template(CHAT_TEMPLATE)
    for add, token in (
        (writer.add_bos_token_id, BOS),
        (writer.add_eos_token_id, EOS),
        (writer.add_pad_token_id, PAD),
        (writer.add_eot_token_id, eot),
    ):
        if token is not None:
            add(tokens.index(token))
    if adds_bos is not None:
        writer.add_add_bos_token(adds_bos)
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # the halves of rotary embeddings become pairs
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        quantized = kind if values.ndim == 2 else "F32"
        written = GGMLQuantizationType[quantized]
        writer.add_tensor(names.get_name(name, (".weight",)), quantize(values, written), raw_dtype=written)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


THINK, THOUGHT = "<think>", "</think>"
THINKING_TEMPLATE = CHAT_TEMPLATE.replace(
    "assistant\n", "assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)
"""A chat template of a model that thinks unless it is told not to."""


def thinking_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer with marks of thinking and a chat template that asks for it."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([THINK, THOUGHT])
    tokenizer.chat_template = THINKING_TEMPLATE
    return tokenizer


def bigram_model(text: str) -> PreTrainedModel:
    """A model that knows one text by heart: behind each token of it comes the next, whatever stands before.

    Args:
        text: In the words of `thinking_tokenizer`; no token may stand twice in it but the last.
    """
    model = tiny_model()
    ids = thinking_tokenizer()(text)["input_ids"]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()  # a token's hidden state is its embedding
            elif "norm" in name:
                parameter.fill_(1.0)
        embedding = torch.randn(VOCABULARY, 32, generator=torch.Generator().manual_seed(0))
        model.get_input_embeddings().weight.copy_(embedding)
        head = model.get_output_embeddings().weight
        head.zero_()
        for token, following in pairwise(ids):
            head[following] += embedding[token] / embedding[token].norm()
    return model
