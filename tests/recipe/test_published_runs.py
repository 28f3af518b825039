"""Every published run is a recipe and a run file; nothing in them is misspelt."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.tasks import TaskManager

from lift_eval.harness.arguments import OWN_ARGUMENTS, read_arguments
from lift_eval.recipe import LoraSettings, PissaSettings, load_recipe, shipped_recipes

ROOT = Path(__file__).parents[2]
RUNS = sorted((ROOT / "reports" / "runs").glob("*.yaml"))


@pytest.fixture(scope="module")
def tasks() -> set[str]:
    manager = TaskManager(include_path=str(ROOT / "tasks"), include_defaults=False)
    return set(manager.all_tasks)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_run_file_is_read_by_lm_eval_and_names_what_exists(path: Path, tasks: set[str]) -> None:
    config = EvaluatorConfig(**EvaluatorConfig.load_yaml_config(str(path)))
    given = {name: value for name, value in config.model_args.items() if name not in OWN_ARGUMENTS}
    read_arguments(config.model_args["recipe"], given)
    assert config.model == "lift"
    assert set(config.tasks) <= tasks
    assert f"reports/runs/{path.name}" in path.read_text().splitlines()[0]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_lm_eval_is_told_to_use_the_chat_template_where_the_recipe_does(path: Path) -> None:
    run = yaml.safe_load(path.read_text())
    prompt = load_recipe(run["model_args"]["recipe"]).prompt
    assert run.get("apply_chat_template", False) == prompt.chat_template
    assert run.get("system_instruction") == prompt.system


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description


# METHOD, section 2: adapter, learning rate, epochs of both stages, pairs, warm-up steps.
PUBLISHED = {
    "llama3_loogle": ("gated_memory", 1e-3, 3, 5, 10, 0),
    "gemma2_loogle": ("pissa", 3e-5, 1, 3, 10, 0),
    "llama3_loogle_no_context": ("gated_memory", 1e-3, 3, 5, 10, 0),
    "llama3_loogle_qa0": ("gated_memory", 1e-3, 3, 5, 0, 0),
    "llama3_loogle_qa30": ("gated_memory", 1e-3, 3, 5, 30, 0),
    "llama3_loogle_pissa": ("pissa", 1e-5, 2, 3, 10, 0),
    "llama3_gov_report": ("gated_memory", 1e-3, 8, 0, 0, 0),
    "llama3_qmsum": ("gated_memory", 1e-3, 8, 0, 0, 0),
    "llama3_musique": ("gated_memory", 2e-3, 3, 5, 10, 4),
    "llama3_narrativeqa": ("gated_memory", 2e-3, 3, 5, 30, 4),
    "llama3_passage_retrieval": ("gated_memory", 2e-3, 3, 5, 60, 4),
    "lora": ("lora", 2e-4, 8, 0, 0, 0),
    "lora_4bit": ("lora", 2e-4, 8, 0, 0, 0),
    "v2": ("lora", 5e-5, 0, 5, 10, 0),
    "v2_qa5": ("lora", 5e-5, 0, 5, 5, 0),
    "v2_self": ("lora", 5e-5, 0, 5, 10, 0),
    "v2_qwen3": ("lora", 5e-5, 0, 5, 10, 0),
    "v2_gemma2": ("lora", 5e-5, 0, 5, 10, 0),
    "v2_raw": ("lora", 5e-5, 5, 0, 0, 0),
    "v2_squad": ("lora", 5e-5, 0, 5, 10, 0),
    "v2_niah": ("lora", 5e-5, 0, 5, 10, 0),
    "v2_fast": ("lora", 3e-4, 0, 1, 1, 0),
}
VERSION_2 = [name for name in PUBLISHED if name.startswith("v2")]
VERSION_1 = [name for name in PUBLISHED if name not in VERSION_2]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_holds_the_published_settings(name: str) -> None:
    recipe = load_recipe(name)
    training = recipe.training
    pairs = recipe.auxiliary.pairs if recipe.auxiliary.strategy != "none" else 0
    found = (
        recipe.adapter.type,
        training.learning_rate,
        training.context_epochs,
        training.joint_epochs,
        pairs,
    )
    assert (*found, training.warmup_steps) == PUBLISHED[name]
    assert (training.eps, training.max_grad_norm) == (1e-8, 1.0)


@pytest.mark.parametrize("name", sorted({*PUBLISHED, "loogle_icl", "longbench_icl", "v2_icl"} - {"lora"}))
def test_a_published_recipe_does_not_leave_the_chat_template_to_the_tokenizer(name: str) -> None:
    assert load_recipe(name).prompt.chat_template is not None


@pytest.mark.parametrize("name", VERSION_1)
def test_optimizer_and_schedule_of_the_first_implementation(name: str) -> None:
    training = load_recipe(name).training
    quick_start = name.startswith("lora")
    assert (training.betas, training.samples_per_step) == ((0.9, 0.98), "all")
    assert training.weight_decay == (0 if quick_start else 1e-4)
    assert training.schedule == ("linear" if quick_start else "constant")
    assert training.warmup == ("per_stage" if training.warmup_steps else "run")
    assert (training.segment_tokens, training.stride_tokens, training.window_tokens) == (2048, 768, 4096)


@pytest.mark.parametrize("name", VERSION_2)
def test_settings_of_the_second_implementation(name: str) -> None:
    recipe = load_recipe(name)
    training = recipe.training
    assert recipe.adapter == LoraSettings(rank=128, alpha=256, dropout=0, targets="all-linear", init=True)
    assert (training.betas, training.weight_decay, training.samples_per_step) == ((0.9, 0.999), 0.0, 4)
    assert training.schedule == ("cosine" if name == "v2_raw" else "constant")
    assert (recipe.precision.quantization, recipe.decoding.source) == ("none", "checkpoint")


@pytest.mark.parametrize("name", [name for name in VERSION_2 if name not in ("v2_raw", "v2_self")])
def test_pairs_of_the_second_implementation_come_from_a_server(name: str) -> None:
    pairs = load_recipe(name).auxiliary
    assert (pairs.strategy, pairs.generator) == ("sentences", "openai:Qwen/Qwen2.5-72B-Instruct")
    assert (pairs.reply_tokens, pairs.batch, pairs.retries) == (8000, 64, 4)
    assert (pairs.encoding, pairs.system) == (
        "joint",
        "" if name == "v2_gemma2" else "You are a helpful assistant.",
    )


def test_what_else_sets_the_recipes_of_the_second_implementation_apart() -> None:
    recipes = {name: load_recipe(name) for name in VERSION_2}
    assert recipes["v2_self"].auxiliary.generator == "self"
    assert recipes["v2_self"].auxiliary.reply_tokens == 1280  # 8,000 would not fit a window of 8,192
    raw = recipes["v2_raw"].training
    assert (raw.segment_tokens, raw.stride_tokens, raw.contextualized) == (1024, 1024, False)
    assert recipes["v2_qwen3"].prompt.enable_thinking is False
    needle = recipes["v2_niah"]
    assert (needle.prompt.style, needle.prompt.document) == ("lift_v2", "none")
    assert needle.decoding.max_new_tokens == 128
    assert "belong to what the text before it is about" in needle.auxiliary.request_template
    icl = load_recipe("v2_icl")
    assert (icl.prompt.system, icl.decoding.source) == ("You are a helpful assistant.", "recipe")
    assert load_recipe("v2").prompt.system is None


@pytest.mark.parametrize("name", ["gemma2_loogle", "llama3_loogle_pissa"])
def test_pissa_has_the_settings_that_the_repository_does_not_tell(name: str) -> None:
    assert load_recipe(name).adapter == PissaSettings(
        rank=128, alpha=128, targets=("q_proj", "k_proj", "v_proj", "o_proj"), iterations=None
    )


@pytest.mark.parametrize("name", ["llama3_musique", "llama3_narrativeqa"])
def test_evidence_of_longbench_pairs_is_asked_for_and_not_checked(name: str) -> None:
    pairs = load_recipe(name).auxiliary
    assert "Evidence:" in pairs.request_template
    assert not pairs.needs_evidence
    assert (pairs.attempts, pairs.reply_tokens) == (3, 1024)


@pytest.mark.parametrize("name", [name for name in VERSION_1 if name != "lora"])
def test_the_first_implementation_ran_on_a_4_bit_base(name: str) -> None:
    assert load_recipe(name).precision.quantization == "nf4"


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("llama3_musique", "musique"),
        ("llama3_narrativeqa", "narrativeqa"),
        ("llama3_passage_retrieval", "passage_retrieval_en"),
    ],
)
def test_pairs_are_trained_in_the_prompt_of_the_test(name: str, task: str) -> None:
    text = (ROOT / "tasks" / "longbench" / f"{task}.yaml").read_text().replace("!function", "")
    asked = yaml.safe_load(text)["dataset_kwargs"]["prompts"]["longbench"]
    trained = load_recipe(name).prompt.template
    assert trained == asked.replace("{context}", "{{ document }}").replace("{input}", "{{ question }}")


def test_pairs_are_trained_in_the_loogle_prompt_of_the_first_implementation() -> None:
    text = (ROOT / "tasks" / "loogle" / "loogle_shortqa.yaml").read_text()
    asked = yaml.safe_load(text)["dataset_kwargs"]["prompts"]["lift_v1"]
    trained = load_recipe("llama3_loogle").prompt.template
    for slot, ours in (("context", "document"), ("question", "question"), ("title", "title")):
        asked = asked.replace(f"{{{slot}}}", f"{{{{ {ours} }}}}")
    assert trained == asked


@pytest.mark.parametrize("name", ["lora_4bit", "gemma2_loogle", "llama3_loogle_pissa"])
def test_low_rank_adapters_of_the_first_implementation_are_on_the_attention(name: str) -> None:
    adapter = load_recipe(name).adapter
    assert isinstance(adapter, (LoraSettings, PissaSettings))
    assert adapter.targets == ("q_proj", "k_proj", "v_proj", "o_proj")
