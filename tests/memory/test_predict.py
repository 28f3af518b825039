"""Predictions of memory: nothing is loaded, and what really happens is close."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from lift_eval.adapters.attach import attach
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.answering.reading import Reading
from lift_eval.cli import main
from lift_eval.memory import depth, simulate
from lift_eval.memory.fake_model import fake_model
from lift_eval.memory.passes import Pass, largest
from lift_eval.memory.predict import MemoryPart, Prediction, chosen_compute, predict
from lift_eval.memory.simulate import _Ledger, answering_bytes, gradient_bytes
from lift_eval.memory.workload import ANSWER_TOKENS, QUESTION_TOKENS, Workload
from lift_eval.models.loading import quantization_config
from lift_eval.recipe import ComputeSettings, PrecisionSettings, Recipe, load_recipe
from lift_eval.training.batching import micro_batches
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.loss import accumulate_gradient, step_gradient
from lift_eval.training.samples import Sample
from lift_eval.training.teacher import Teacher
from tests.tiny_models import ARCHITECTURES, save_checkpoint, tiny_config, tiny_model, tiny_tokenizer

CPU = torch.device("cpu")
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"type": "lora", "rank": 4, "targets": "all-linear"},
    "gated_memory": {"type": "gated_memory", "lm_head_rank": 2},
    "weights": {"type": "weights"},
}
COMBINED = [
    (architecture, adapter, (row + column) % 2 == 0)
    for row, architecture in enumerate(ARCHITECTURES)
    for column, adapter in enumerate(ADAPTERS)
]
"""Every two of architecture, adapter and checkpointing together."""


def recipe_with(adapter: str, **changes: object) -> Recipe:
    keys = {name.replace("__", "."): value for name, value in changes.items()}
    return load_recipe("lora", {"adapter": ADAPTERS[adapter], **keys})


def batch_of(tokens: int, rows: int) -> Any:
    samples = [Sample(torch.zeros(8, dtype=torch.int64), torch.ones(tokens - 8, dtype=torch.int64))] * rows
    return micro_batches(samples, tokens * rows, share_prefixes=False)[0]


def predicted(config: Any, recipe: Recipe, free: int = 2**40, tokens: int = 5000) -> Prediction:
    return predict(config, recipe, device=CPU, document_tokens=tokens, window=16384, free=free)


@pytest.mark.parametrize(("architecture", "adapter", "checkpointing"), COMBINED)
def test_a_gradient_takes_what_was_predicted(architecture: str, adapter: str, checkpointing: bool) -> None:
    recipe, batch = recipe_with(adapter), batch_of(300, 2)
    expected = gradient_bytes(
        fake_model(tiny_config(architecture), recipe, CPU),
        batch,
        checkpointing=checkpointing,
        accumulated=False,
    )
    model = attach(tiny_model(architecture), recipe.adapter, seed=0).train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with _Ledger() as ledger:
        accumulate_gradient(model, batch, 1)
    assert expected == pytest.approx(ledger.peak, rel=0.02)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_distillation_takes_what_was_predicted(weight: float) -> None:
    wanted = {"segment_tokens": 600, "stride_tokens": 600, "hidden_state_weight": weight}
    recipe = load_recipe("ddcd", {"training": wanted, "precision.dtype": "float32", "adapter.rank": 4})
    workload = Workload.of(
        recipe, fake_model(tiny_config("llama"), recipe, CPU), document_tokens=5000, window=4096
    )
    model = attach(tiny_model("llama"), recipe.adapter, seed=0).train()
    teacher = Teacher(model, model.disable_adapter, recipe.training)
    (step,) = workload.steps
    batch = micro_batches(step, 700, share_prefixes=False)[0]
    with _Ledger() as ledger:
        accumulate_gradient(model, batch, 1, teacher=teacher)
    found = gradient_bytes(
        workload.model, batch, checkpointing=False, accumulated=False, teacher=workload.teacher
    )
    assert found == pytest.approx(ledger.peak, rel=0.02)


@pytest.mark.parametrize("name", ["cartridge", "context_distillation", "sdcd"])
def test_distilled_conversations_take_what_was_predicted(name: str) -> None:
    """With the passage that the teacher alone reads, longer than what is trained, in several micro-batches."""
    small = {"max_tokens": 64, "pairs": 8, "chunk_characters": [1600, 1600]}
    recipe = load_recipe(
        name, {"auxiliary": small, "precision.dtype": "float32", "training.samples_per_step": 4}
    )
    document = torch.arange(2000) % 200
    made = fake_model(tiny_config("llama"), recipe, CPU)
    with recipe.adapter.without_initialisation.prepared(made, document, seed=0):
        workload = Workload.of(recipe, made, document_tokens=len(document), window=4096)
        expected = workload.gradient(256, checkpointing=False)
    pairs = [
        Sample(
            torch.tensor([0, number] * (QUESTION_TOKENS // 2)).sort()[0],
            torch.full((64,), number),
            teacher_context=torch.full((400 + QUESTION_TOKENS,), number),
        )
        for number in range(1, 5)
    ]
    model = attach(tiny_model("llama"), recipe.adapter, seed=0).train()
    batches = micro_batches(pairs, 256, share_prefixes=True, column_cost=column_cost_of(model))
    with recipe.adapter.prepared(model, document, seed=0), _Ledger() as ledger:
        step_gradient(model, batches, 4 * 64, Teacher(model, model.disable_adapter, recipe.training))
    assert len(batches) > 1
    assert expected == pytest.approx(ledger.peak, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_rows_behind_a_trunk_take_what_was_predicted(adapter: str, checkpointing: bool) -> None:
    """With the prefix's activations, its keys and values, and their gradient."""
    recipe = recipe_with(adapter)
    prompts = [torch.tensor([0] * 200 + [number] * (90 + number)) for number in (1, 1, 2)]
    answer_ids = torch.ones(5, dtype=torch.int64)
    samples = [Sample(prompt, answer_ids) for prompt in prompts]
    batches = micro_batches(samples, 64, share_prefixes=True, cache_prefixes=True, column_cost=1e-3)
    batch = max(batches, key=lambda batch: batch.tokens)
    assert batch.prefix is not None
    expected = gradient_bytes(
        fake_model(tiny_config("llama"), recipe, CPU), batch, checkpointing=checkpointing, accumulated=False
    )
    model = attach(tiny_model(), recipe.adapter, seed=0).train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with _Ledger() as ledger:
        step_gradient(model, [batch], 1)
    assert expected == pytest.approx(ledger.peak, rel=0.02)


def test_the_longest_rows_and_the_longest_behind_a_trunk_are_predicted() -> None:
    recipe = recipe_with("lora")
    model = fake_model(tiny_config("llama"), recipe, CPU)
    alike = [
        Sample(torch.tensor([0] * 300 + [number] * 9), torch.ones(3, dtype=torch.int64))
        for number in range(4)
    ]
    other = Sample(torch.tensor([9] * 10), torch.ones(40, dtype=torch.int64))
    cache_prefixes, apart = Workload(model, [alike]), Workload(model, [alike[:1]])
    assert cache_prefixes.gradient(64, checkpointing=False) == pytest.approx(
        apart.gradient(64, checkpointing=False), rel=0.3
    )
    assert Workload(model, [[*alike, other]]).gradient(64, checkpointing=False) >= cache_prefixes.gradient(
        64, checkpointing=False
    )


def test_views_of_what_was_there_before_take_nothing() -> None:
    weight = torch.zeros(1000, 1000)
    with _Ledger() as ledger:
        product = weight.t()[:10] @ weight
    assert ledger.peak == product.nbytes


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_what_is_read_once_without_a_gradient_takes_what_was_predicted(adapter: str) -> None:
    recipe = recipe_with(adapter)
    ids = torch.zeros(400, dtype=torch.int64)
    samples = [
        Sample(ids[380:], torch.ones(60 + number, dtype=torch.int64), ids[:380]) for number in range(3)
    ]
    model = attach(tiny_model(), recipe.adapter, seed=0).train()
    batches = micro_batches(samples, 64, share_prefixes=True, cache_prefixes=True, column_cost=1e-3)
    with _Ledger() as ledger:
        step_gradient(model, batches, 1)
    made = fake_model(tiny_config("llama"), recipe, CPU)
    assert Workload(made, [samples]).gradient(64, checkpointing=False) == pytest.approx(ledger.peak, rel=0.15)


def test_windows_and_documents_of_pairs_are_read_once_where_the_recipe_freezes_them() -> None:
    changes = {
        "training.window_tokens": 1024, "training.segment_tokens": 256, "training.stride_tokens": 256,
        "prompt.max_tokens": 1200, "auxiliary.prompts": ["test", "closed_book"], "precision.quantization": "none",
    }  # fmt: skip
    recipe = load_recipe("fast", changes)
    model = fake_model(tiny_config("llama"), recipe, CPU)
    context, test, closed_book = (
        {(len(sample.prefix), len(sample.target)) for sample in samples}
        for samples in Workload.of(recipe, model, document_tokens=5000, window=16384).steps
    )
    assert context == {(1024, 256)}
    assert test == {(1024, 256), (1200 - QUESTION_TOKENS, ANSWER_TOKENS)}
    assert closed_book == {(1024, 256), (0, ANSWER_TOKENS)}


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_base_takes_what_was_predicted(quantization: str) -> None:
    recipe = recipe_with("lora", precision__quantization=quantization, precision__dtype="float32")
    settings = quantization_config(PrecisionSettings(quantization=quantization), torch.float32)
    config = tiny_config("llama")
    config.hidden_size, config.intermediate_size, config.head_dim = 256, 512, 64  # scales weigh little
    base = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    real = attach(base, recipe.adapter, seed=0, quantization=settings)
    weights = sum(tensor.nbytes for tensor in real.state_dict().values() if isinstance(tensor, torch.Tensor))
    made = fake_model(config, recipe, CPU)
    assert sum(tensor.nbytes for tensor in made.state_dict().values()) == pytest.approx(weights, rel=0.05)
    batch = batch_of(300, 2)
    with _Ledger() as ledger:
        accumulate_gradient(real.train(), batch, 1)
    expected = gradient_bytes(made, batch, checkpointing=False, accumulated=False)
    assert expected == pytest.approx(ledger.peak, rel=0.15)


GREEDY, SAMPLED = Decoding(6), Decoding(6, options={"do_sample": True})


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("shared", [0, 150, 290], ids=["apart", "half", "branches"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_answering_takes_what_was_predicted(architecture: str, shared: int, decoding: Decoding) -> None:
    prompts = [[1] * shared + [2 + number] * (300 - shared) for number in range(4)]
    expected = answering_bytes(
        fake_model(tiny_config(architecture), recipe_with("lora"), CPU), prompts, decoding, batch=4
    )
    model = attach(tiny_model(architecture), recipe_with("lora").adapter, seed=0).eval()
    with _Ledger() as ledger:
        answer(model, tiny_tokenizer(), prompts, decoding, batch=4)
    assert expected == pytest.approx(ledger.peak, rel=0.1)


def deep_config(architecture: str, layers: int = 12) -> Any:
    config = tiny_config(architecture)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types * (layers // 2)
    return config


def simulated_whole(monkeypatch: pytest.MonkeyPatch, work: Callable[[], int]) -> int:
    """What a simulation of every layer says."""
    with monkeypatch.context() as patch:
        patch.setattr(depth, "_shallow", lambda kinds: ())
        return work()


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize(
    ("architecture", "adapter"),
    [
        *(("llama", adapter) for adapter in ADAPTERS),
        ("gemma3", "lora"),
    ],  # every second layer of gemma3 slides
)
def test_the_gradient_of_a_deep_model_is_told_by_its_first_layers(
    architecture: str, adapter: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake_model(deep_config(architecture), recipe_with(adapter), CPU)
    measure = partial(
        gradient_bytes, made, batch_of(40, 2), checkpointing=checkpointing, accumulated=checkpointing
    )
    assert measure() == pytest.approx(simulated_whole(monkeypatch, measure), rel=0.001)


@pytest.mark.parametrize("shared", [0, 290], ids=["apart", "branches"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_answers_of_a_deep_model_are_told_by_its_first_layers(
    architecture: str, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[1] * shared + [2 + number] * (300 - shared) for number in range(4)]
    made = fake_model(deep_config(architecture), recipe_with("lora"), CPU)
    measure = partial(answering_bytes, made, prompts, Decoding(6), batch=4)
    assert measure() == pytest.approx(simulated_whole(monkeypatch, measure), rel=0.001)


@pytest.mark.parametrize(
    ("shared", "decoding"), [(0, GREEDY), (300, GREEDY), (0, SAMPLED)], ids=["apart", "half", "sampled"]
)
def test_rows_that_are_read_one_by_one_are_told_by_three_of_them(
    shared: int, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[1] * shared + [2 + number] * (700 - shared) for number in range(6)]
    made = fake_model(tiny_config("llama"), recipe_with("lora"), CPU)
    told = answering_bytes(made, prompts, decoding, batch=6)
    monkeypatch.setattr(simulate, "_alike_rows", lambda *_: False)
    all_passes(monkeypatch)
    assert told == pytest.approx(answering_bytes(made, prompts, decoding, batch=6), rel=0.001)


def all_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on every pass is simulated; the numbers of passes are put in the list."""
    found: list[int] = []

    def largest(passes: Sequence[Pass]) -> range:
        found.append(len(passes))
        return range(len(passes))

    monkeypatch.setattr(simulate, "largest", largest)
    return found


@pytest.mark.parametrize(
    ("architecture", "shared", "tokens"),
    [
        ("llama", 0, 1532),  # with the four new tokens that are read, three whole chunks
        ("qwen3", 0, 700),
        ("qwen2", 100, 1700),
        ("llama", 300, 1539),
        ("qwen3", 100, 330),  # two rows side by side
    ],
)
def test_rows_of_many_tokens_are_told_by_their_largest_passes(
    architecture: str, shared: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte."""
    prompts = [[1] * shared + [2 + number] * (tokens - shared) for number in range(4)]
    made = fake_model(tiny_config(architecture), recipe_with("lora"), CPU)
    measure = partial(answering_bytes, made, prompts, Decoding(6), batch=4)
    told, found = measure(), all_passes(monkeypatch)
    assert told == measure()
    assert found[0] > 2


def test_of_passes_alike_the_one_that_reads_most_columns_is_computed() -> None:
    chunk, end, step = (1, 512), (1, 40), (2, 1)
    row = [Pass(chunk, 512), Pass(chunk, 1024), Pass(end, 1064)]
    assert set(largest([*row, *row, Pass(step, 1065)])) == {1, 2, 6}


def test_shallow_models_end_as_the_whole_one_does_and_layers_that_differ_are_all_simulated() -> None:
    assert depth._shallow(["a"] * 30) == (3, 4)
    assert depth._shallow(["a", "b"] * 13) == (4, 6)
    assert depth._shallow(["a", "a", "b"] * 8 + ["a"]) == (4, 7)
    assert depth._shallow(["a"] * 15 + ["b"] * 15) == ()
    assert depth._shallow(["a"] * 8) == ()  # too few to save anything


@pytest.mark.parametrize("method", ["streaming", "snapkv", "expected_attention"])
def test_answering_behind_a_cut_cache_takes_what_was_predicted(method: str) -> None:
    recipe = recipe_with("lora", decoding__cache={"type": method})
    reading = Reading(recipe.decoding.cache, [250] * 4)
    prompts = [[1] * 250 + [2 + number] * 50 for number in range(4)]
    expected = answering_bytes(
        fake_model(tiny_config("llama"), recipe, CPU), prompts, Decoding(6), batch=4, reading=reading
    )
    model = attach(tiny_model("llama"), recipe.adapter, seed=0).eval()
    with _Ledger() as ledger:
        answer(model, tiny_tokenizer(), prompts, Decoding(6), batch=4, reading=reading)
    assert expected == pytest.approx(ledger.peak, rel=0.1)
    whole = predicted(tiny_config("llama"), recipe)
    assert next(part for part in whole.parts if part.name == "answers").bytes > 0


def test_the_fake_of_a_large_model_holds_no_data() -> None:
    config = tiny_config("llama")
    config.hidden_size, config.intermediate_size, config.num_attention_heads = 8192, 28672, 64
    before = psutil.Process().memory_info().rss
    model = fake_model(config, recipe_with("lora", precision__dtype="bfloat16"), CPU)
    assert sum(tensor.nbytes for tensor in model.parameters()) > 2**31
    assert psutil.Process().memory_info().rss - before < 2**29


def test_little_memory_means_smaller_micro_batches_and_then_checkpointing() -> None:
    recipe = recipe_with("lora", training__segment_tokens=256, training__stride_tokens=256)
    model = fake_model(tiny_config("llama"), recipe, CPU)
    work = Workload.of(recipe, model, document_tokens=5000, window=16384)
    plenty = work.choose(recipe.compute, 2**40)
    assert (plenty.micro_batch_tokens, plenty.gradient_checkpointing) == (2048, False)
    needed = work.optimizer + work.gradient(2048, checkpointing=False)
    less = work.choose(recipe.compute, needed)
    assert less.micro_batch_tokens in (512, 1024)
    assert not less.gradient_checkpointing
    single = work.optimizer + work.gradient(256, checkpointing=False)
    assert work.choose(recipe.compute, single).gradient_checkpointing
    known = len(work._known)
    nothing = work.choose(recipe.compute, 0)
    assert len(work._known) == known, "nothing is simulated where the model alone takes the memory"
    assert (nothing.micro_batch_tokens, nothing.gradient_checkpointing) == (256, True)


def test_a_model_that_cannot_be_predicted_is_trained_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Unregistered(LlamaConfig):
        model_type = "of-somebody"

    recipe = recipe_with("lora")
    model = attach(tiny_model(), recipe.adapter, seed=0)
    model.get_base_model().config = Unregistered(**tiny_config("llama").to_dict())
    monkeypatch.setattr("lift_eval.memory.predict.free_bytes", lambda device: 1)
    chosen = chosen_compute(ComputeSettings(), recipe, model, 16384)
    assert (chosen.micro_batch_tokens, chosen.gradient_checkpointing) == (2048, False)
    assert "could not be predicted" in caplog.text


def test_what_the_recipe_says_is_kept() -> None:
    recipe = recipe_with("lora")
    said = ComputeSettings(micro_batch_tokens=64, gradient_checkpointing=True)
    model = attach(tiny_model(), recipe.adapter, seed=0)
    assert chosen_compute(said, recipe, model, 16384) == said
    half = ComputeSettings(micro_batch_tokens=64)
    assert chosen_compute(half, recipe, model, 16384).micro_batch_tokens == 64
    chosen = chosen_compute(ComputeSettings(), recipe, model, 16384)
    assert "auto" not in (chosen.micro_batch_tokens, chosen.gradient_checkpointing)


def test_longer_documents_need_no_more_memory() -> None:
    recipe = recipe_with(
        "lora", training__segment_tokens=256, training__stride_tokens=128, prompt__max_tokens=200,
        compute__answer_batch=2, compute__micro_batch_tokens=512, compute__gradient_checkpointing=False,
    )  # fmt: skip
    short, long = (predicted(tiny_config("llama"), recipe, tokens=tokens) for tokens in (13_000, 130_000))
    assert long.of("training") == short.of("training")
    assert long.of("answering") == short.of("answering")


def test_every_phase_of_every_shipped_strategy_is_predicted() -> None:
    small = {
        "training.segment_tokens": 256,
        "training.stride_tokens": 256,
        "training.window_tokens": 256,
        "prompt.max_tokens": 300,
        "compute": {"answer_batch": 2, "micro_batch_tokens": 512, "gradient_checkpointing": False},
        "auxiliary.batch": 2,
        "precision": {"dtype": "float32", "quantization": "none"},
    }
    for name in ("llama3_loogle", "v2_self", "llama3_passage_retrieval", "cartridge", "sdcd"):
        prediction = predicted(tiny_config("llama"), load_recipe(name, small), tokens=1000)
        assert {part.phase for part in prediction.parts} == {"", "training", "answering", "synthesis"}
        assert all(part.bytes > 0 for part in prediction.parts)


def test_the_peak_is_the_largest_phase_and_what_lasts() -> None:
    parts = [
        MemoryPart("a", 5),
        MemoryPart("b", 1, phase="x"),
        MemoryPart("c", 2, phase="x"),
        MemoryPart("d", 2, phase="y"),
    ]
    prediction = Prediction(parts, ComputeSettings())
    assert (prediction.peak, prediction.largest_phase) == (8, "x")


def test_the_doctor_predicts_and_advises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["doctor", "--model", str(save_checkpoint(tmp_path)), "--document-tokens", "3000"]
    assert main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    for subject in ("process", "base weights", "adapter", "optimizer", "gradient", "answers", "peak memory"):
        assert any(subject in line for line in lines), subject
    assert lines[-1].startswith("ok  peak memory")
    monkeypatch.setattr("lift_eval.cli.prediction.free_bytes", lambda _: 2**20)
    assert main(asked) == 0
    advice = capsys.readouterr().out.splitlines()[-1]
    assert advice.startswith("--  peak memory")
    assert "precision.quantization=nf4" in advice


def test_a_gpu_that_is_not_there_needs_least_memory_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = recipe_with(
        "lora", precision__dtype="auto", training__segment_tokens=64, training__stride_tokens=64
    )
    config, lengths = tiny_config("llama"), {"document_tokens": 3000, "window": 400}
    told = predict(config, recipe, device=torch.device("cuda"), free=None, **lengths)
    half = recipe_with(
        "lora", precision__dtype="bfloat16", training__segment_tokens=64, training__stride_tokens=64,
        compute__micro_batch_tokens=64, compute__gradient_checkpointing=True,
    )  # fmt: skip
    on_cpu = predict(config, half, device=CPU, free=2**40, **lengths)
    assert (told.compute.micro_batch_tokens, told.compute.gradient_checkpointing) == (64, True)
    assert told.parts == [part for part in on_cpu.parts if part.name != "process"]
    assert told.operations == on_cpu.operations


def test_the_doctor_predicts_for_a_gpu_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = ["doctor", "--model", str(save_checkpoint(tmp_path)), "--document-tokens", "3000"]
    assert main([*asked, "--device", "cuda"]) == 0
    *parts, operations, peak = capsys.readouterr().out.splitlines()
    assert not any("process" in part for part in parts)
    assert re.search(
        r"operations while training [\d.e-]+ petaFLOP a document: .* min at 100 TFLOP/s", operations
    )
    assert re.search(
        r"peak memory +at least \d+\.\d\d GiB; the peak is while \w+; for less, try a smaller", peak
    )


def test_what_only_a_run_imports_is_counted_and_not_imported() -> None:
    """In an interpreter of its own: another test of this process has imported all of it."""
    script = """
import importlib, sys
import psutil
import lift_eval.cli.prediction
from lift_eval.memory.predict import IMPORTED, process_bytes
from lift_eval.recipe import load_recipe

process_bytes(load_recipe("v2_self"))
assert not set(IMPORTED) & set(sys.modules)
for name, module in (("lm_eval", "lift_eval.harness.model"), ("nltk", "nltk.tokenize.punkt")):
    before = psutil.Process().memory_info().rss
    importlib.import_module(module)
    assert 0.5 < (psutil.Process().memory_info().rss - before) / IMPORTED[name] < 2, name
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=600)


def test_the_doctor_names_a_checkpoint_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", "./nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
