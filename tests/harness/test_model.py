"""The model class of lm-eval: the same answers as lm-eval's own ``hf``, one training for each document."""

from __future__ import annotations

import json
import logging
import math
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM
from transformers import GenerationConfig

from lift_eval.document import Document
from lift_eval.errors import CheckpointError, DocumentError, RecipeError, StoreError
from lift_eval.harness.model import LiftLM
from lift_eval.prompts.prompt import Prompt
from tests.tiny_models import BOS, THOUGHT, bigram_model, save_checkpoint, thinking_tokenizer, tiny_tokenizer

LAMP = "The lamp was lit by Ann at nine. " * 8
BOAT = "No boat came in before the storm. " * 7
TRAINED = {
    "recipe": "lora", "adapter.rank": 4, "training.context_epochs": 1, "training.learning_rate": 0.02,
    "training.segment_tokens": 64, "training.stride_tokens": 48, "precision.dtype": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = save_checkpoint(tmp_path_factory.mktemp("llama"))
    tiny_tokenizer(adds_bos=True, chat_template=True).save_pretrained(folder)
    return folder


def lift(checkpoint: Path, **arguments: Any) -> LiftLM:
    return LiftLM(str(checkpoint), device="cpu", **{"recipe": "icl", "store": "off", **arguments})


@pytest.fixture(scope="module")
def icl(checkpoint) -> LiftLM:
    return lift(checkpoint)


@pytest.fixture(scope="module")
def hf(checkpoint) -> HFLM:
    return HFLM(str(checkpoint), device="cpu", dtype="float32", batch_size=2)


def generation(
    prompt: str, doc: dict[str, Any] | None = None, *, task: str = "task", row: int = 0, **kwargs: Any
) -> Instance:
    settings = {"until": ["\n"], "max_gen_toks": 8, "do_sample": False, **kwargs}
    return Instance("generate_until", doc or {}, (prompt, settings), 0, (task, row, 1))


def scoring(context: str, continuation: str, doc: dict[str, Any] | None = None, *, row: int = 0) -> Instance:
    return Instance("loglikelihood", doc or {}, (context, continuation), 0, ("choices", row, 1))


def rolling(text: str, doc: dict[str, Any] | None = None) -> Instance:
    return Instance("loglikelihood_rolling", doc or {}, (text,), 0, ("texts", 0, 1))


def about(text: str, question: str, **kwargs: Any) -> Instance:
    return generation(f"{text}\n{question}", {"context": text}, **kwargs)


# --- as lm-eval's own model ----------------------------------------------------------------------------------------


def test_with_a_short_prompt_and_no_adapter_answers_are_those_of_hf(icl, hf):
    requests = [
        about(LAMP, "Who lit the lamp?"),
        generation("No document here."),
        about(BOAT, "When?", until=["e", "\n\n"], max_gen_toks=20),
        generation("  Leading spaces, and trailing ones  ", until=[]),
        about(LAMP, "Where?", max_gen_toks=3),
        about(BOAT, "Why? äöü 灯台", until="a"),
        generation("x", temperature=0.0),
    ]
    answers = icl.generate_until(requests)
    assert answers == hf.generate_until(requests)
    assert len(set(answers)) > 4
    # On its own, since hf looks only at the first prompt of a batch to tell whether all have their BOS.
    begun = [generation(f"{BOS}It begins by itself.")]
    assert icl.generate_until(begun) == hf.generate_until(begun)


def test_log_likelihoods_are_those_of_hf(icl, hf):
    requests = [
        scoring(f"{LAMP}\nIt was lit by", " Ann", {"context": LAMP}),
        scoring(f"{LAMP}\nIt was lit by", " Bob", {"context": LAMP}),
        scoring("No document, a space at the end ", "yes"),
        scoring("", "An empty context"),
        scoring(f"{BOAT}", " No boat came.", {"context": BOAT}),
    ]
    assert_close(icl.loglikelihood(requests), hf.loglikelihood(requests, disable_tqdm=True))
    texts = [rolling(LAMP, {"page": LAMP}), rolling("Short."), rolling(BOAT * 3)]
    ours, theirs = icl.loglikelihood_rolling(texts), hf.loglikelihood_rolling(texts, disable_tqdm=True)
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("adapter", ["lora", "gated_memory", "cartridge", "weights"])
def test_a_half_precision_base_scores_with_every_kind_of_adapter(checkpoint: Path, adapter: str) -> None:
    settings = {key: value for key, value in TRAINED.items() if key != "adapter.rank"} | {
        "adapter.type": adapter
    }
    scores = []
    for dtype in ("float32", "bfloat16"):
        lm = lift(checkpoint, **settings | {"precision.dtype": dtype})
        choices = [scoring(LAMP, name, {"page": LAMP}, row=row) for row, name in enumerate((" Ann", " Bob"))]
        scores.append([score for score, _ in lm.loglikelihood(choices, disable_tqdm=True)])
        scores[-1] += lm.loglikelihood_rolling([rolling(LAMP, {"page": LAMP})], disable_tqdm=True)
    assert scores[0] == pytest.approx(scores[1], rel=0.05)


def assert_close(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> None:
    assert [score for score, _ in ours] == pytest.approx([score for score, _ in theirs], rel=1e-5)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


@pytest.mark.parametrize("bos", [None, True, False])
@pytest.mark.parametrize("adds_bos", [True, False])
def test_bos_follows_the_rules_of_hf(tmp_path, bos, adds_bos):
    """``prompt.bos`` stands for hf's add_bos_token, and holds for generation and log-likelihood alike."""
    save_checkpoint(tmp_path)
    tiny_tokenizer(adds_bos=adds_bos).save_pretrained(tmp_path)
    ours = lift(tmp_path, **{} if bos is None else {"prompt.bos": bos})
    theirs = HFLM(str(tmp_path), device="cpu", dtype="float32", add_bos_token=bos)
    for text in ("Who?", f"{BOS}Who?", " "):
        expected = theirs.tok_encode(text)
        assert ours.tok_encode(text) == expected
        assert ours.lifter.encoder.encode(Prompt(text), 8).ids == expected


def test_the_chat_template_is_applied_when_lm_eval_asks_for_it(icl, hf):
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{LAMP} Who?"}]
    prompt = icl.apply_chat_template(history)
    assert prompt == hf.apply_chat_template(history)
    assert prompt.startswith(f"{BOS}<|start|>system")
    request = [generation(prompt, {"context": LAMP})]
    assert icl.generate_until(request) == hf.generate_until(request)


@pytest.fixture
def thinker(checkpoint, tmp_path) -> Path:
    """A model that thinks before it answers "Ad", and whose chat template asks whether it shall."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "thinker"))
    bigram_model("?<think>\nb</think>\tAd\n").save_pretrained(folder)
    thinking_tokenizer().save_pretrained(folder)
    return folder


def test_a_reasoning_model_is_scored_by_its_answer_and_its_thinking_is_counted(thinker, caplog):
    lm = lift(thinker)
    assert lm.generate_until([about(LAMP, "Who?", max_gen_toks=20)] * 2, disable_tqdm=True) == ["Ad", "Ad"]
    totals = lm.record.as_dict()["totals"]
    assert (totals["thinking_tokens"], totals["incomplete_answers"]) == (8, 0)
    assert "8 tokens of thinking" in lm.record.documents[0].summary()
    assert lm.generate_until([about(BOAT, "Who?", max_gen_toks=3)], disable_tqdm=True) == [""]
    assert "1 of 1 answers about" in caplog.text
    assert "3 new tokens are too few" in caplog.text


@pytest.mark.parametrize("mark", [THOUGHT, 262, "262"])
def test_a_mark_of_thinking_may_be_named_as_for_hf(thinker, mark):
    asked = [generation("Who?", until=[], max_gen_toks=8)]
    theirs = HFLM(str(thinker), device="cpu", dtype="float32", think_end_token=mark)
    assert lift(thinker, think_end_token=mark).generate_until(asked) == theirs.generate_until(asked)


def test_answers_of_a_reasoning_model_come_from_the_store_with_their_thinking(thinker, tmp_path):
    store = str(tmp_path / "store")
    little = TRAINED | {"training.learning_rate": 1e-9}
    runs = [lift(thinker, store=store, **little) for _ in range(2)]
    for lm in runs:
        lm.generate_until([about(LAMP, "Who?", max_gen_toks=20)], disable_tqdm=True)
    first, second = (lm.record.documents[0] for lm in runs)
    assert second.reused == ["adapter", "answers"]
    assert first.thinking_tokens == second.thinking_tokens > 0


@pytest.mark.parametrize("thinking", [True, False])
def test_lm_eval_is_told_whether_a_model_shall_think(thinker, thinking):
    asked = [{"role": "user", "content": "Who?"}]
    lm, plain = lift(thinker, enable_thinking=thinking), lift(thinker)
    ending = "" if thinking else "<think>\n\n</think>\n\n"
    assert lm.apply_chat_template(asked) == plain.apply_chat_template(asked) + ending
    assert lm.lifter.encoder.in_chat("Who?") == lm.apply_chat_template(asked)
    # Pairs are trained without thinking in any case.
    assert lm.lifter.encoder.in_chat("Who?", thinking=False).endswith("<think>\n\n</think>\n\n")


def test_thinking_before_a_given_answer_is_refused(thinker):
    with pytest.raises(
        RecipeError, match=r"enable_thinking=True works for generated answers only, but choices scores"
    ):
        lift(thinker, enable_thinking=True).loglikelihood([scoring("Who?", " Ann")])


def test_sampling_is_honoured(icl):
    hot = [about(LAMP, "Who?", do_sample=True, temperature=3.0)]
    assert icl.generate_until(hot) == icl.generate_until(hot)
    assert icl.generate_until(hot) != icl.generate_until([about(LAMP, "Who?")])


def test_decoding_as_the_checkpoint_says_overrules_the_task(checkpoint, tmp_path):
    """The published LIFT runs of the second implementation sample, since Llama 3's generation config does."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "sampling"))
    said = GenerationConfig(do_sample=True, temperature=3.0, top_k=0, eos_token_id=257, pad_token_id=258)
    said.save_pretrained(folder)
    asked = [about(LAMP, "Who?")]  # greedy, by the task
    greedy = lift(folder).generate_until(asked)
    sampled = lift(folder, **{"decoding.source": "checkpoint"}).generate_until(asked)
    assert sampled != greedy
    assert sampled == lift(folder).generate_until([about(LAMP, "Who?", do_sample=True, temperature=3.0)])
    assert lift(checkpoint, **{"decoding.source": "checkpoint"}).generate_until(asked) == greedy


# --- documents -----------------------------------------------------------------------------------------------------


def test_each_document_is_trained_once_over_all_tasks_and_answers_keep_their_order(checkpoint):
    requests = [
        about(LAMP, "Who?", task="one"), about(BOAT, "Who?", task="one"), about(LAMP, "When?", task="one", row=1),
        generation("Nothing.", task="two"), about(BOAT, "When?", task="two"), about(LAMP, "Who?", task="two"),
    ]  # fmt: skip
    lm = lift(checkpoint, **TRAINED)
    answers = lm.generate_until(requests, disable_tqdm=True)
    totals = lm.record.as_dict()["totals"]
    assert (totals["documents"], totals["questions"], totals["questions_without_document"]) == (2, 5, 1)
    assert [len(record.losses) for record in lm.record.documents] == [1, 1]
    assert answers[0] == answers[5]
    alone = lift(checkpoint, **TRAINED)
    assert answers == [alone.generate_until([request], disable_tqdm=True)[0] for request in requests]
    assert answers != lift(checkpoint).generate_until(requests, disable_tqdm=True)


def test_documents_of_a_run_are_trained_together_where_asked(checkpoint):
    requests = [about(LAMP, "Who?"), about(BOAT, "Who?"), generation("Nothing.", task="two")]
    one_by_one, at_once = lift(checkpoint, **TRAINED), lift(checkpoint, **TRAINED, **{"compute.documents": 2})
    expected = one_by_one.generate_until(requests, disable_tqdm=True)
    assert at_once.generate_until(requests, disable_tqdm=True) == expected
    losses = [record.losses for record in one_by_one.record.documents]
    for record, alone in zip(at_once.record.documents, losses, strict=True):
        assert record.losses == pytest.approx(alone, rel=1e-4)
    assert not at_once.lifter.ahead


@pytest.mark.parametrize(("task", "warned"), [("lift_tiny_shortqa", False), ("loogle_shortqa", True)])
def test_without_a_name_the_bundled_model_answers_and_warns_where_its_scores_mean_nothing(
    caplog, task, warned
):
    lm = LiftLM(recipe="tiny_icl", device="cpu", store="off")
    with caplog.at_level(logging.WARNING):
        lm.generate_until([about(LAMP, "Who?", task=task)], disable_tqdm=True)
    assert ("its scores on other tasks mean nothing" in caplog.text) == warned


def test_requests_without_a_document_are_answered_by_the_base_and_told(checkpoint, icl, caplog):
    requests = [generation("Nothing.", task="two"), about(LAMP, "Who?"), generation("Nought.", task="three")]
    lm = lift(checkpoint, **TRAINED)
    with caplog.at_level(logging.WARNING):
        answers = lm.generate_until(requests, disable_tqdm=True)
    bare = [requests[0], requests[2]]
    assert [answers[0], answers[2]] == icl.generate_until(bare, disable_tqdm=True)
    assert (
        "the rows of 2 questions of three, two hold no document, so the base model answers them"
        in caplog.text
    )
    assert lm.record.questions_without_document == 2


def test_all_kinds_of_requests_are_done_by_the_model_adapted_to_their_document(checkpoint, icl):
    lm = lift(checkpoint, **TRAINED)
    choices = [
        scoring(f"{LAMP}\nBy", " Ann", {"context": LAMP}),
        scoring("By", " Ann"),
        scoring(f"{BOAT}\nBy", " Ann", {"context": BOAT}),
    ]
    before = lm.loglikelihood(choices, disable_tqdm=True)
    lm.generate_until([about(LAMP, "Who?"), about(BOAT, "Who?")], disable_tqdm=True)
    assert lm.loglikelihood(choices, disable_tqdm=True) == before
    base = icl.loglikelihood(choices, disable_tqdm=True)
    assert before[0][0] != pytest.approx(base[0][0], abs=1e-3)
    assert before[1] == base[1]
    texts = [rolling(LAMP, {"page": LAMP}), rolling("Short.")]
    ours, theirs = (model.loglikelihood_rolling(texts, disable_tqdm=True) for model in (lm, icl))
    assert ours[0] > theirs[0] + 1  # it was trained on this very text
    assert ours[1] == theirs[1]
    assert len(lm.record.documents) == 2


def test_the_choices_of_a_row_are_one_question_and_count_what_its_prompt_keeps_of_the_document(checkpoint):
    lm = lift(checkpoint, **{"prompt.max_tokens": 150})
    doc = {"context": LAMP}
    choices = [scoring(f"{LAMP}\nBy", f" {name}", doc) for name in ("Ann", "Bob")]
    alone = [scoring("", f" {name}", doc) for name in ("Ann", "Bob")]  # as acc_mutual_info asks
    lm.loglikelihood([*choices, *alone], disable_tqdm=True)
    (record,) = lm.record.documents
    assert record.questions == 1
    assert 0.4 < record.kept < 0.6
    lm.loglikelihood([scoring("By", " Ann", doc, row=1)], disable_tqdm=True)
    (record,) = lm.record.documents
    assert record.questions == 2
    assert 0.2 < record.kept < 0.3  # half of the document for one, nothing for the other


def test_choices_that_are_scored_without_their_question_too_are_about_its_document(checkpoint, caplog):
    """As acc_mutual_info asks: the model that has learned the document says how likely a choice is by itself."""
    row = {"page": LAMP}
    choices = [scoring(text, " Ann", row) for text in (f"{LAMP}\nBy", "")]
    lm = lift(checkpoint, **TRAINED)
    scores = lm.loglikelihood(choices, disable_tqdm=True)
    (record,) = lm.record.documents
    assert (record.questions, lm.record.questions_without_document) == (1, 0)
    named = [scoring(text, " Ann", {"context": LAMP}) for text in (f"{LAMP}\nBy", "")]
    assert lift(checkpoint, **TRAINED).loglikelihood(named, disable_tqdm=True) == scores
    assert "no document" not in caplog.text


def test_a_row_that_is_sampled_several_times_is_one_question(checkpoint):
    lm = lift(checkpoint)
    lm.generate_until([about(LAMP, "Who?", do_sample=True, temperature=1.0)] * 3, disable_tqdm=True)
    assert [record.questions for record in lm.record.documents] == [1]


def test_an_automatic_batch_size_is_searched_once_a_run(checkpoint, monkeypatch):
    searched: list[int] = []
    search = LiftLM._detect_batch_size

    def counted(lm: LiftLM, requests: Any, pos: int = 0) -> int:
        searched.append(len(requests[pos][1]))
        return search(lm, requests, pos)

    monkeypatch.setattr(LiftLM, "_detect_batch_size", counted)
    texts = {"context": LAMP}, {"context": BOAT}, {"context": LAMP * 2}  # the longest document comes last
    asked = [scoring(f"{doc['context']}\nBy", f" {name}", doc) for doc in texts for name in ("Ann", "Bob")]
    auto, one = (lift(checkpoint, batch_size=size, max_batch_size=4) for size in ("auto", 1))
    scores = auto.loglikelihood(asked, disable_tqdm=True)
    assert_close(scores, one.loglikelihood(asked, disable_tqdm=True))
    shorter = [rolling(doc["context"], doc) for doc in texts[:2]]
    assert auto.loglikelihood_rolling(shorter) == pytest.approx(one.loglikelihood_rolling(shorter), rel=1e-5)
    assert searched == [len(LAMP * 2) + len("\nBy Ann") + 1]  # a byte each, and the BOS


def test_a_long_context_is_cut_in_the_middle_for_log_likelihoods_too(checkpoint, hf):
    """And the space at its end goes to the continuation once, as in lm-eval."""
    lm = lift(checkpoint, **{"prompt.max_tokens": 150})
    (ours,) = lm.loglikelihood([scoring(f"{LAMP}\nBy ", "Ann", {"context": LAMP})], disable_tqdm=True)
    ids = hf.tok_encode(f"{LAMP}\nBy")
    dots = hf.tok_encode("...", add_special_tokens=False)
    cut = [*ids[: 75 - len(dots)], *dots, *ids[-75:]]
    continuation = hf.tok_encode(" Ann", add_special_tokens=False)
    (theirs,) = hf._loglikelihood_tokens([(("", ""), cut, continuation)], disable_tqdm=True)
    assert_close([ours], [theirs])


def test_a_closed_book_recipe_takes_the_document_out_of_every_prompt(checkpoint, icl):
    lm = lift(checkpoint, **{"prompt.document": "none"})
    assert lm.generate_until([about(LAMP, "Who?")]) == icl.generate_until([generation("\nWho?")])
    ours = lm.loglikelihood([scoring(f"{LAMP}\nBy", " Ann", {"context": LAMP})], disable_tqdm=True)
    assert_close(ours, icl.loglikelihood([scoring("\nBy", " Ann")], disable_tqdm=True))


def test_the_documents_end_is_asked_about_in_all_kinds_of_requests(checkpoint, icl):
    lm = lift(checkpoint, **{"prompt.document": "end", "prompt.max_tokens": 150, "prompt.ellipsis": ""})
    asked = lm.generate_until([about(LAMP, "Who?")])
    assert asked == icl.generate_until([generation(f"{LAMP}\nWho?"[-149:])])
    ours = lm.loglikelihood([scoring(f"{LAMP}\nBy", " Ann", {"context": LAMP})], disable_tqdm=True)
    assert_close(ours, icl.loglikelihood([scoring(f"{LAMP}\nBy"[-149:], " Ann")], disable_tqdm=True))
    assert 0.4 < lm.record.documents[0].kept < 0.6


def test_a_document_longer_than_the_window_is_refused_before_anything_is_trained(checkpoint):
    lm = lift(checkpoint, **TRAINED, max_length=300, **{"prompt.document": "full"})
    requests = [about(BOAT, "Who?"), about(LAMP * 2, "Who?", row=7)]
    with pytest.raises(DocumentError, match="task 'task', row 7: the prompt with the whole document"):
        lm.generate_until(requests, disable_tqdm=True)
    with pytest.raises(DocumentError, match="task 'choices', row 0: the prompt with the whole document"):
        lm.loglikelihood([scoring(f"{LAMP * 2}\nBy", " Ann", {"context": LAMP * 2})], disable_tqdm=True)
    assert lm.record.documents == []


def test_a_question_whose_document_does_not_fit_is_skipped_and_counted(checkpoint, icl):
    lm = lift(checkpoint, max_length=300, **{"prompt.document": "full", "prompt.over_length": "skip"})
    requests = [about(LAMP * 2, "Who?"), about(BOAT, "Who?", row=1)]
    assert lm.generate_until(requests) == ["", *icl.generate_until(requests[1:])]
    long, short = {"context": LAMP * 2}, {"context": BOAT}
    choices = [
        scoring(f"{row['context']}\nBy", f" {name}", row, row=number)
        for number, row in enumerate((long, short))
        for name in ("Ann", "Bob")
    ]
    scores = lm.loglikelihood(choices, disable_tqdm=True)
    assert [score for score, _ in scores[:2]] == [-math.inf] * 2
    assert_close(scores[2:], icl.loglikelihood(choices[2:], disable_tqdm=True))
    skipped, asked = lm.record.documents
    assert (skipped.questions, skipped.skipped, asked.skipped) == (2, 2, 0)
    assert (
        "2 questions, 0% of the document in the prompt, 2 prompts skipped because the document does not fit"
        in skipped.summary()
    )
    assert lm.record.totals.skipped_questions == 2


def test_a_choice_that_does_not_fit_skips_its_question(checkpoint):
    lm = lift(checkpoint, max_length=270, **{"prompt.document": "full", "prompt.over_length": "skip"})
    choices = [scoring(f"{LAMP}\nBy", name, {"context": LAMP}) for name in (" Ann", " Ann of the lighthouse")]
    scores = lm.loglikelihood(choices, disable_tqdm=True)
    assert [score for score, _ in scores] == [-math.inf] * 2
    assert [(record.questions, record.skipped) for record in lm.record.documents] == [(1, 1)]


def test_a_document_that_does_not_fit_is_truncated_to_the_window_and_counted(checkpoint):
    lm = lift(checkpoint, max_length=300, **{"prompt.document": "full", "prompt.over_length": "truncate"})
    truncated = lift(checkpoint, max_length=300, **{"prompt.max_tokens": 292})
    requests = [about(LAMP * 2, "Who?"), about(BOAT, "Who?", row=1)]
    assert lm.generate_until(requests) == truncated.generate_until(requests)
    assert [record.truncated for record in lm.record.documents] == [1, 0]
    assert "1 prompt truncated because the document does not fit" in lm.record.documents[0].summary()


RETRIEVED = {"prompt.document": "retrieved", "prompt.passage_tokens": len(LAMP), "prompt.passages": 1}


def test_passages_are_retrieved_for_each_rows_question_in_all_kinds_of_requests(checkpoint, icl):
    """Whatever else the prompt says: of lamp and boat."""
    lm, page = lift(checkpoint, **RETRIEVED), f"{LAMP}{BOAT}"
    asked = {"Who lit it, Ann?": LAMP, "What boat came?": BOAT}
    rows = [{"context": page, "question": question} for question in asked]

    def prompt(document: str, question: str) -> str:
        return f"{document}\nOf lamp and boat: {question}\n"

    requests = [generation(prompt(page, row["question"]), row, row=place) for place, row in enumerate(rows)]
    expected = [generation(prompt(passage, question)) for question, passage in asked.items()]
    assert lm.generate_until(requests) == icl.generate_until(expected)
    assert lm.record.documents[0].kept == pytest.approx(0.5, abs=0.05)
    ours = [scoring(request.args[0], "Ann", row) for request, row in zip(requests, rows, strict=True)]
    theirs = [scoring(request.args[0], "Ann") for request in expected]
    assert_close(lm.loglikelihood(ours, disable_tqdm=True), icl.loglikelihood(theirs, disable_tqdm=True))


def test_the_wrong_document_is_the_next_one_of_the_run_and_after_the_last_the_first(checkpoint, icl):
    lm, bell = lift(checkpoint, **{"prompt.document": "wrong"}), "A bell was rung at noon by Bob. " * 8
    texts = (LAMP, BOAT, bell)
    asked = [about(text, ask, row=row) for row, (text, ask) in enumerate(product(texts, ("Who?", "When?")))]
    expected = [generation(f"{text}\n{ask}") for text, ask in product((BOAT, bell, LAMP), ("Who?", "When?"))]
    assert lm.generate_until(asked) == icl.generate_until(expected)
    assert [record.kept for record in lm.record.documents] == [0.0] * 3
    choice = [scoring(f"{text}\nBy", " Ann", {"context": text}, row=row) for row, text in enumerate(texts)]
    others = [scoring(f"{text}\nBy", " Ann") for text in (BOAT, bell, LAMP)]
    assert_close(lm.loglikelihood(choice, disable_tqdm=True), icl.loglikelihood(others, disable_tqdm=True))
    with pytest.raises(DocumentError, match=r"task 'task', row 0: .* but there is no other"):
        lm.generate_until(asked[:2], disable_tqdm=True)


@pytest.mark.parametrize("content", ["full", "end", "retrieved", "wrong"])
def test_a_document_that_its_task_changes_is_refused_where_a_part_of_it_is_to_be_chosen(checkpoint, content):
    lm = lift(checkpoint, **TRAINED, **{"prompt.document": content})
    changed = f"{LAMP.upper()}\nWho?"
    told = f"row 0: 'prompt.document: {content}' needs a prompt with the whole document"
    with pytest.raises(DocumentError, match=told):
        lm.generate_until([generation(changed, {"context": LAMP})], disable_tqdm=True)
    with pytest.raises(DocumentError, match=told):
        lm.loglikelihood([scoring(changed, " Ann", {"context": LAMP})], disable_tqdm=True)
    assert lm.record.documents == []


@pytest.mark.parametrize("form", [str.strip, lambda text: text.replace(" ", "\n")])
def test_a_closed_book_recipe_takes_out_every_place_of_the_document_whatever_its_white_space(
    checkpoint, icl, form
):
    """As in few-shot examples about the same document, and behind templates that strip."""
    lm = lift(checkpoint, **{"prompt.document": "none"})
    prompt = f"{LAMP}|When? At nine.\n\n{form(LAMP)}|Who?"
    expected = icl.generate_until([generation("|When? At nine.\n\n" + form(" ") + "|Who?")])
    assert lm.generate_until([generation(prompt, {"context": LAMP})]) == expected
    assert lm.record.documents[0].kept == 0.0
    read = lift(checkpoint)
    read.generate_until([generation(f"{form(LAMP)}|Who?", {"context": LAMP})])
    assert read.record.documents[0].kept == 1.0


@pytest.mark.parametrize("closed_book", [False, True])
def test_a_document_that_its_task_changes_is_told_once_and_not_taken_for_absent(
    checkpoint, caplog, closed_book
):
    lm = lift(checkpoint, max_length=300, **{"prompt.document": "none"} if closed_book else {})
    requests = [
        generation(f"{LAMP.upper()}\n{ask}", {"context": LAMP}, row=row)
        for row, ask in enumerate(("Who?", "When?"))
    ]
    lm.generate_until([*requests, about(BOAT, "Who?")], disable_tqdm=True)
    changed, found = lm.record.documents
    assert (changed.kept, changed.not_located) == (None, 2)
    assert (found.kept, found.not_located) == (0.0 if closed_book else 1.0, 0)
    assert "2 questions, document not found in 2 prompts" in changed.summary()
    assert lm.record.as_dict()["totals"]["kept"] == found.kept
    (told,) = [line for line in caplog.messages if "cannot be located" in line]
    assert told.startswith("the prompts of 2 questions of task contain only parts of the document")
    assert ("these parts stay in the prompts, although prompt.document=none" in told) == closed_book


def test_prompts_without_the_document_are_told_to_be_closed_book(checkpoint, capsys):
    lm = lift(checkpoint)
    lm.generate_until([generation("Who?", {"context": LAMP}), about(LAMP, "When?", row=1)])
    assert "closed-book, no document in the prompt: 1 question of task" in capsys.readouterr().err
    assert lm.record.documents[0].kept == 0.5


def test_the_field_that_is_the_document_is_told_once_a_run_with_its_first_words(checkpoint, capsys):
    question = {"question": "Would you say " + "that it is so, or " * 20}
    requests = [
        about(LAMP, "Who?", task="two"),
        about(BOAT, "When?", task="one"),
        generation(question["question"], question, task="three"),
    ]
    lm = lift(checkpoint)
    lm.generate_until(requests)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("document of")]
    assert len(told) == 2
    assert told[0].startswith(
        f"document of one, two: field 'context', \"{LAMP[:59]}...\"; document_field=NAME"
    )
    assert told[1].startswith("document of three: field 'question', \"Would you say that it is so, or")
    lm.generate_until(requests, disable_tqdm=True)
    assert "document of" not in capsys.readouterr().err


@pytest.mark.parametrize("none", [None, "none"])  # lm-eval makes None of the word
def test_document_field_none_has_no_documents(checkpoint, icl, caplog, none):
    lm = lift(checkpoint, document_field=none, **TRAINED)
    requests = [about(LAMP, "Who?"), about(BOAT, "When?", row=1)]
    assert lm.generate_until(requests, disable_tqdm=True) == icl.generate_until(requests, disable_tqdm=True)
    assert (lm.record.documents, lm.record.questions_without_document) == ([], 2)
    assert "no document" not in caplog.text


def test_document_field_names_the_document(checkpoint):
    lm = lift(checkpoint, document_field="body", **TRAINED)
    lm.generate_until([generation(f"{BOAT} Who?", {"body": LAMP, "context": BOAT})], disable_tqdm=True)
    assert [record.tokens for record in lm.record.documents] == [len(LAMP)]
    with pytest.raises(
        DocumentError, match="task 'task', row 3: document_field='body' must name a text field"
    ):
        lm.generate_until([generation("Who?", {"context": BOAT}, row=3)])


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (lambda: about("x", "Who?", row=7), "task 'task', row 7: document 'x' has fewer than two tokens"),
        (
            lambda: about(LAMP, "W" * 400, row=7),
            "task 'task', row 7: the prompt without its document has 402 tokens",
        ),
        (lambda: generation("Who?", {"body": " "}, row=7), "task 'task', row 7: document is empty"),
    ],
)
def test_what_cannot_be_done_is_refused_by_task_and_row_before_its_training(checkpoint, request_, told):
    lm = lift(checkpoint, max_length=300, **TRAINED)
    if "empty" in told:
        lm.document_field = "body"
    with pytest.raises(DocumentError, match=told):
        lm.generate_until([request_()], disable_tqdm=True)
    assert lm.record.documents == []


PAIRS = {
    **TRAINED, "training.joint_epochs": 1, "auxiliary.strategy": "sentences", "auxiliary.pairs": 1,
    "auxiliary.attempts": 2, "auxiliary.max_tokens": 5,
}  # fmt: skip
PAIRS_ALONE = {**PAIRS, "training.context_epochs": 0, "training.joint_segments": False}


def test_a_document_on_which_nothing_was_trained_is_given_up(checkpoint):
    """The random model writes no JSON, so there is no pair; without segments that would be plain ICL."""
    lm = lift(checkpoint, **PAIRS_ALONE)
    assert lm.generate_until([about(LAMP, "Who?"), about(LAMP, "When?", row=1)], disable_tqdm=True) == [
        "",
        "",
    ]
    (record,) = lm.record.documents
    assert (record.losses, record.questions, record.lost_questions) == ([], 0, 2)
    assert record.failure.startswith(
        "GeneratorError: nothing was trained, no pair could be used (pairs: 0 kept from 8 passages, 16 replies "
        "cut off, 0 unparsed); use a higher auxiliary.max_tokens"
    )
    assert record.pairs["given_up"] == 8
    assert lm.record.as_dict()["totals"]["failed_documents"] == 1


def test_a_document_trained_on_few_pairs_is_told(checkpoint, caplog):
    lm = lift(checkpoint, **PAIRS)
    assert lm.generate_until([about(LAMP, "Who?")], disable_tqdm=True) != [""]
    (record,) = lm.record.documents
    assert (len(record.losses), record.failure) == (2, "")
    (told,) = [line for line in caplog.messages if "few pairs" in line]
    assert "few pairs to train on (pairs: 0 kept from 8 passages, 16 replies cut off" in told
    assert lm.record.as_dict()["totals"]["documents_with_few_pairs"] == 1


# --- what is told --------------------------------------------------------------------------------------------------


def test_the_results_hold_recipe_versions_and_costs_as_plain_json(checkpoint):
    lm = lift(checkpoint, **TRAINED)
    asked = [about(LAMP, "Who?"), about(LAMP, "When?", row=1), about(BOAT, "Who?", row=2)]
    lm.generate_until(asked, disable_tqdm=True)
    info = json.loads(json.dumps(lm.get_model_info()["lift"]))
    assert info["recipe_digest"] == lm.recipe.digest
    assert info["recipe"]["training"]["learning_rate"] == 0.02
    assert info["pretrained"] == str(checkpoint)
    assert (info["device"], info["dtype"], info["window"]) == ("cpu", "float32", 16384)
    assert {"python", "torch", "transformers", "peft", "lm-eval"} <= set(info["versions"])
    totals = info["totals"]
    assert (totals["documents"], totals["questions"], totals["kept"]) == (2, 3, 1.0)
    assert totals["trained_tokens"] > len(LAMP) + len(BOAT)
    assert set(totals["seconds"]) >= {"load", "train", "answer"}
    assert totals["seconds"]["train"] > 0
    for document in info["documents"]:
        assert set(document["memory"]) == {"train", "answer"}
        assert 0 < max(document["memory"].values()) <= 1.01 * totals["peak_memory_bytes"]
    assert [document["questions"] for document in info["documents"]] == [2, 1]


def test_lm_evals_cache_of_answers_is_refused_before_anything_is_trained(checkpoint, tmp_path):
    """It knows a request by its prompt: two documents with one closed-book question would share an answer."""
    lm = lift(checkpoint, **TRAINED)
    with pytest.raises(StoreError, match="leave it out: the store identifies answers"):
        CachingLM(lm, str(tmp_path / "answers.db"))
    assert lm.record.documents == []


def test_one_closed_book_question_about_two_documents_has_two_answers_again_from_the_store(
    checkpoint, tmp_path
):
    asked = [
        generation("Who was there?", {"context": text}, row=row) for row, text in enumerate((LAMP, BOAT))
    ]
    store = str(tmp_path / "store")
    first = lift(checkpoint, **TRAINED, store=store)
    answers = first.generate_until(asked, disable_tqdm=True)
    again = lift(checkpoint, **TRAINED, store=store)
    assert again.generate_until(asked[::-1], disable_tqdm=True) == answers[::-1]
    assert [record.reused for record in again.record.documents] == [["adapter", "answers"]] * 2
    assert answers[0] != answers[1]


def test_all_wrong_arguments_are_told_at_once_before_anything_is_loaded():
    with pytest.raises(RecipeError) as caught:
        LiftLM(
            "/no/such/folder",
            recip="lora",
            load_in_4bit=True,
            **{"training.learning_rat": 1, "adapter.rank": 0},
        )
    text = str(caught.value)
    assert "(4 faults)" in text
    assert "unknown argument 'recip' (value 'lora'); did you mean 'recipe'?" in text
    assert "'load_in_4bit' is not an argument of model 'lift': use precision.quantization=nf4" in text
    assert "unknown key 'training.learning_rat'" in text
    assert "'adapter.rank' must be greater than or equal to 1, got 0" in text


def test_a_text_longer_than_the_tokenizer_s_limit_is_nothing_to_warn_of(tmp_path, caplog):
    save_checkpoint(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 16
    tokenizer.save_pretrained(tmp_path)
    ours, theirs = lift(tmp_path), HFLM(str(tmp_path), device="cpu")
    ours.loglikelihood([scoring(LAMP, " Ann", {"context": LAMP})], disable_tqdm=True)
    assert "Token indices" not in caplog.text
    theirs.tok_encode(LAMP)
    assert "Token indices" in caplog.text


@pytest.mark.parametrize("missing", ["tokenizer", "weights", "config"])
def test_a_broken_checkpoint_is_told_in_one_line(checkpoint, tmp_path, missing):
    names = {"tokenizer": "tokenizer", "weights": "model", "config": "config.json"}
    for path in checkpoint.iterdir():
        if not path.name.startswith(names[missing]):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError) as caught:
        lift(tmp_path)
    assert str(caught.value).startswith(f"pretrained='{tmp_path}' ")
    assert "\n" not in str(caught.value)


def test_lm_eval_logs_a_documents_hash_in_its_prompts_and_not_its_text(checkpoint):
    lm = lift(checkpoint)
    request = about(LAMP, "Who lit the lamp?")
    lm.generate_until([request], disable_tqdm=True)
    assert request.args[0] == f"{LAMP}\nWho lit the lamp?"
    assert lm.rank == 0  # lm-eval reads it once more when all is answered
    assert request.args[0] == f"[document sha256:{Document(LAMP).digest}]\nWho lit the lamp?"


def test_an_instruct_model_is_asked_and_trained_in_its_chat_template_unless_it_is_turned_off(checkpoint):
    for off, used in (({}, True), ({"prompt.chat_template": False}, False)):
        assert lift(checkpoint, **off).recipe.prompt.chat_template is used


def test_a_form_that_recipe_and_request_disagree_about_is_told(checkpoint, caplog):
    lift(checkpoint).generate_until([about(LAMP, "Who?")], disable_tqdm=True)
    assert (
        "is made for questions through the chat template, but questions are asked as plain text"
        in caplog.text
    )


def test_the_judge_is_on_the_record(checkpoint, monkeypatch):
    assert lift(checkpoint, judge="m").get_model_info()["lift"]["judge"] == "m"
    monkeypatch.setenv("LIFT_EVAL_JUDGE", "n")
    assert lift(checkpoint).get_model_info()["lift"]["judge"] == "n"
