"""Training samples of pairs: in which prompt, how they are cut, and what of them is supervised."""

from __future__ import annotations

import pytest

from lift_eval.document import Document
from lift_eval.errors import RecipeError
from lift_eval.prompts.form import TaskForm
from lift_eval.prompts.prompt import Prompt, PromptEncoder
from lift_eval.recipe import load_recipe
from lift_eval.synthesis.replies import Pair
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample
from tests.tiny_models import CHAT_TEMPLATE, thinking_tokenizer, tiny_tokenizer

DOCUMENT = Document("The mill is by the sea. " * 20, "Mills")
PAIR = Pair("Where is the mill?", "By the sea")
SYSTEM = "<|start|>system\nYou are a helpful assistant.<|end|>\n"


def samples(
    recipe: str, pairs: list[Pair], overrides: dict[str, object], template: str = CHAT_TEMPLATE
) -> PairSamples:
    settings = load_recipe(recipe, overrides)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return PairSamples(DOCUMENT, pairs, PromptEncoder(tokenizer, settings.prompt, 4096), settings.auxiliary)


def sample(recipe: str, pair: Pair = PAIR, template: str = CHAT_TEMPLATE, **overrides: object) -> Sample:
    (made,) = samples(recipe, [pair], overrides, template).epoch(0)
    return made


def texts(made: Sample) -> tuple[str, str]:
    """What is read and what is learned."""
    tokenizer = tiny_tokenizer()
    return str(tokenizer.decode(made.context)), str(tokenizer.decode(made.target))


def test_a_loogle_pair_is_one_text_with_the_title_twice_and_a_space_before_the_answer() -> None:
    read, learned = texts(sample("llama3_loogle"))
    assert read.startswith(
        f"The article Mills: \nMills\n{DOCUMENT.text}\nPlease answer the question based on Mills."
    )
    assert read.endswith("Question: Where is the mill?\nAnswer: ")
    assert learned == " By the sea"


def test_prompt_and_answer_are_cut_together() -> None:
    read, learned = texts(sample("llama3_loogle", **{"prompt.max_tokens": 301}))
    assert learned == " By the sea"
    assert len(read + learned) == 301
    whole = "".join(texts(sample("llama3_loogle")))
    assert read + learned == whole[:147] + "..." + whole[-151:]


@pytest.mark.parametrize("recipe", ["llama3_musique", "llama3_narrativeqa"])
def test_a_longbench_pair_has_a_prompt_of_its_own_and_ends_its_turn(recipe: str) -> None:
    read, learned = texts(sample(recipe))
    question = (
        f"The article: \n{DOCUMENT.text}\nPlease answer the question based on the article.\n"
        "Question: Where is the mill?\nAnswer: "
    )
    assert read == f"<bos>{SYSTEM}<|start|>user\n{question}<|end|>\n<|start|>assistant\n"
    assert learned == "By the sea<|end|>\n"


def test_a_summary_of_a_paragraph_is_trained_in_the_test_prompt_and_ends_its_turn() -> None:
    read, learned = texts(sample("llama3_passage_retrieval", Pair("A mill is described.", "Paragraph 7")))
    assert "The following is an abstract.\n\nA mill is described.\n\nPlease enter the number" in read
    assert learned == "Paragraph 7<|end|>\n"


def test_pairs_of_the_second_implementation_are_closed_book_with_the_system_message() -> None:
    read, learned = texts(sample("v2"))
    asked = 'Please answer the question based on "Mills".\nQuestion: Where is the mill?\nAnswer:'
    assert read == f"<bos>{SYSTEM}<|start|>user\n{asked}<|end|>\n<|start|>assistant\n"
    assert learned == "By the sea<|end|>\n"
    assert texts(sample("v2", **{"auxiliary.system": ""}))[0] == read.replace(SYSTEM, "")


def test_a_model_that_can_think_is_trained_to_answer_at_once() -> None:
    """Behind the empty thought, which is read: only the answer is learned."""
    template = (
        "{% for message in messages %}<|start|>{{ message.role }}\n"
        "{% if loop.last and message.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
        "{{ message.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n"
        "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    )
    read, learned = texts(sample("v2_qwen3", template=template))
    assert read.endswith("<|start|>assistant\n<think>\n\n</think>\n\n")
    assert learned == "By the sea<|end|>\n"


@pytest.mark.parametrize("encoding", ["joint", "separate"])
def test_a_pair_of_a_model_that_always_thinks_is_trained_without_a_thought(encoding: str) -> None:
    """As its own template shows earlier turns: the thought that it begins in a question is left out."""
    template = CHAT_TEMPLATE.replace("assistant\n", "assistant\n<think>\n")
    tokenizer = thinking_tokenizer()
    tokenizer.chat_template = template
    recipe = load_recipe("v2", {"auxiliary.encoding": encoding, "auxiliary.system": ""})
    encoder = PromptEncoder(tokenizer, recipe.prompt, 4096)
    (made,) = PairSamples(DOCUMENT, [PAIR], encoder, recipe.auxiliary).epoch(0)
    assert encoder.in_chat("Where?").endswith("assistant\n<think>\n")
    assert tokenizer.decode(made.context).endswith("Answer:<|end|>\n<|start|>assistant\n")
    assert tokenizer.decode(made.target).startswith("By the sea")


def test_gemma_2_gets_no_system_message() -> None:
    assert texts(sample("v2_gemma2"))[0] == texts(sample("v2"))[0].replace(SYSTEM, "")


def test_the_needle_runs_train_on_the_bare_question() -> None:
    assert texts(sample("v2_niah")) == texts(sample("v2_fast"))


def test_the_latency_setting_trains_on_the_bare_question() -> None:
    read, _ = texts(sample("v2_fast"))
    assert read == f"<bos>{SYSTEM}<|start|>user\nWhere is the mill?<|end|>\n<|start|>assistant\n"


def test_separate_encoding_leaves_the_answer_whole() -> None:
    overrides = {"auxiliary.encoding": "separate", "prompt.max_tokens": 101}
    read, learned = texts(sample("llama3_loogle", Pair("Who?", "x" * 300), **overrides))
    assert learned == " " + "x" * 300
    assert len(read) == 101


def test_an_answer_behind_demonstrations_ends_as_theirs_do() -> None:
    read, learned = texts(sample("smollm2_pairs", template=""))
    assert "Answer: ten\n\nMills\n\n" in read
    assert learned == " By the sea\n\n"


def test_an_answer_without_a_token_of_its_own_is_counted_and_left_out() -> None:
    made = samples("llama3_loogle", [Pair("Who?", ""), PAIR], {"prompt.answer_prefix": ""})
    assert [texts(one)[1] for one in made.epoch(0)] == ["By the sea"]
    assert made.untrainable == 1


def test_pairs_are_trained_in_the_prompt_of_the_task_with_and_without_the_document() -> None:
    prompt = Prompt.around(f"{DOCUMENT.text}\n\nQ: Who?\nA:", DOCUMENT)
    form = TaskForm.of(prompt, DOCUMENT, "Who?")
    assert form is not None
    settings = load_recipe(
        "lora", {"training.joint_epochs": 1, "auxiliary.strategy": "sentences",
                 "auxiliary.prompts": ["task", "task_closed_book"]},
    )  # fmt: skip
    assert settings.auxiliary.asks_as_task
    encoder = PromptEncoder(tiny_tokenizer(), settings.prompt, 4096)
    with_document, closed_book = PairSamples(DOCUMENT, (), encoder, settings.auxiliary, [form]).samples(PAIR)
    assert texts(with_document) == (f"{DOCUMENT.text}\n\nQ: Where is the mill?\nA:", " By the sea")
    assert texts(closed_book) == ("\n\nQ: Where is the mill?\nA:", " By the sea")


def test_pairs_of_a_recipe_with_its_own_template_stay_in_it() -> None:
    settings = load_recipe(
        "lora",
        {
            "training.joint_epochs": 1,
            "auxiliary.strategy": "sentences",
            "auxiliary.template": "{{ question }}",
        },
    )
    assert settings.auxiliary.prompts_in_turn == ("test",)


@pytest.mark.parametrize("prompt", ["closed_book", "task_closed_book"])
@pytest.mark.parametrize("passage", ["The mill is by the sea.", ""])
def test_a_teacher_reads_the_passage_of_a_pair_and_the_student_does_not(prompt: str, passage: str) -> None:
    settings = load_recipe("context_distillation", {"auxiliary.prompts": [prompt]})
    encoder = PromptEncoder(tiny_tokenizer(), settings.prompt, 4096)
    text = f"Read: {DOCUMENT.text}\nQ: Why?\nA:"
    form = TaskForm.of(Prompt.around(text, DOCUMENT), DOCUMENT, "Why?")
    assert form is not None
    pair = Pair(PAIR.question, PAIR.answer, passage=passage)
    (made,) = PairSamples(DOCUMENT, [pair], encoder, settings.auxiliary, [form], distills=True).epoch(0)
    assert made.teacher_context is not None
    read, learned = texts(made)
    taught = str(tiny_tokenizer().decode(made.teacher_context))
    shown = passage or DOCUMENT.text
    assert learned.strip() == "By the sea"
    assert "Where is the mill?" in read
    assert "by the sea" not in read
    if prompt == "task_closed_book":
        assert taught == f"Read: {shown}\nQ: Where is the mill?\nA:"
    else:
        assert taught == settings.prompt.template.replace("{{ title }}", "Mills").replace(
            "{{ document }}", shown
        ).replace("{{ question }}", PAIR.question)


def test_a_pair_may_stand_behind_its_own_passage_and_closed_book_in_turn_and_be_learned_as_a_whole() -> None:
    pairs = [Pair(f"Question {number}?", "By the sea", passage="The mill is white.") for number in range(2)]
    with_passage, closed_book = samples("prag", pairs, {"prompt.chat_template": False}).epoch(0)
    changes = {"prompt.chat_template": False, "auxiliary.loss_on": "answer"}
    expected = [
        f"The article Mills: \nThe mill is white.\nPlease answer the question based on Mills.\n"
        f"Question: {pairs[0].question}\nAnswer: By the sea",
        f'Please answer the question based on "Mills".\nQuestion: {pairs[1].question}\nAnswer: By the sea',
    ]

    assert [texts(with_passage), texts(closed_book)] == [("", text) for text in expected]
    (answer_alone, _) = samples("prag", pairs, changes).epoch(0)
    assert "".join(texts(answer_alone)) == expected[0]
    assert texts(answer_alone)[1] == "By the sea"


@pytest.mark.parametrize(
    "changes",
    [
        {"training.objective": "distillation", "auxiliary.prompts": ["closed_book"]},
        {"training.contextualized": True, "training.window_draw": "step"},
    ],
)
def test_a_whole_text_is_learned_of_the_next_token_alone(changes: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"loss_on: text' needs 'training.objective: next_token'"):
        load_recipe("prag", {"auxiliary.rewrite_request": None, **changes})
