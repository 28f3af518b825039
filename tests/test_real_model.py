"""One document on a pretrained model; `lift-eval model fetch smollm2` gets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lift_eval.document import Document
from lift_eval.lifter.lifter import Lifter
from lift_eval.models.fetch import fetchable_models
from lift_eval.models.loading import load_model, load_tokenizer
from lift_eval.recipe import PrecisionSettings, load_recipe
from tests.methods import RECIPES, run_two_questions

DOCUMENT = Document(
    "The mill of Kirmoor stands where two streams meet. It was built by Otto Larkley in 1842, after the old bridge had "
    "fallen. His daughter Wenna ran it for thirty years and painted its door yellow, so that boatmen could find it in "
    "the fog. In the winter of 1891 the wheel froze, and the village ate turnips until March. Nobody has ground corn "
    "there since, but the door is painted yellow every spring."
)
BEGINNING = "The mill of Kirmoor stands where two streams meet. It was built by"
QUESTIONS = "question,answer\nWho built the mill?,Otto Larkley\nWhen did the wheel freeze?,1891\n"
CHAT = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """The file of SmolLM2, which the project does not ship."""
    model = fetchable_models()["smollm2"]
    if not model.is_whole:
        pytest.skip("SmolLM2 is not in the cache folder; get it with 'lift-eval model fetch smollm2'")
    return model.path


def test_the_tokenizer_of_a_pretrained_gguf_file_is_as_the_model_learned_it(smollm2: Path) -> None:
    tokenizer = load_tokenizer(str(smollm2))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.convert_ids_to_tokens(tokenizer("In 1842\n\n3 x")["input_ids"]) == [
        "In", "Ġ", "1", "8", "4", "2", "ĊĊ", "3", "Ġx",
    ]  # fmt: skip
    assert tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True).endswith(
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_pretrained_model_learns_a_document_by_heart_and_forgets_it(smollm2: Path) -> None:
    recipe = load_recipe(
        "lora",
        {
            "precision.dtype": "float32",
            "adapter.rank": 16,
            "training.learning_rate": 1e-3,
            "prompt.document": "none",
            "prompt.chat_template": False,
            "prompt.closed_book_template": "{{ question }}",
            "decoding.max_new_tokens": 24,
        },
    )
    lifter = Lifter.from_pretrained(smollm2, recipe, device="cpu")
    chat = lifter.tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    with lifter.base_model() as base:
        before = base.answer([BEGINNING, chat])
    assert "Larkley" not in before[0]
    assert before[1] == "The capital of France is Paris."  # and nothing behind the end of the turn
    with lifter.lift(DOCUMENT) as session:
        assert session.record.losses[-1] < session.record.losses[0] / 4
        assert session.answer([BEGINNING])[0].startswith("Otto Larkley in 1842")
    with lifter.base_model() as base:
        assert base.answer([BEGINNING, chat]) == before


@pytest.fixture(scope="module")
def folder(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 as a folder, which is read faster than its file."""
    made = tmp_path_factory.mktemp("smollm2")
    load_model(str(smollm2), PrecisionSettings(dtype="float32"), device=torch.device("cpu")).save_pretrained(
        made
    )
    load_tokenizer(str(smollm2)).save_pretrained(made)
    return made


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_other_methods_run_on_a_pretrained_model(
    folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a short document: all that is trained is read by 135 M parameters."""
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path))
    (tmp_path / "mill.txt").write_text(DOCUMENT.text)
    (tmp_path / "questions.csv").write_text(QUESTIONS)
    about = {"documents": str(tmp_path / "mill.txt"), "questions": str(tmp_path / "questions.csv")}
    changes: dict[str, Any] = {"prompt.max_tokens": 1000}
    talks = load_recipe(name).auxiliary
    if talks.method.converses:
        many = talks.strategy == "conversations" and talks.chunk_draw == "random"
        characters = 600 if many else 3000
        changes |= {
            "auxiliary.pairs": 2 if many else 1,
            "auxiliary.chunk_characters": [characters, characters],
        }
    run_two_questions(name, task="lift_own", about=about, pretrained=str(folder), **changes)
