"""The Lifter: a document is lifted, asked about, and leaves no trace in the next."""

from __future__ import annotations

import itertools

import pytest
import torch

from lift_eval.adapters.state import AdapterState
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.document import Document, document_seed
from lift_eval.errors import CheckpointError, DocumentError, RecipeError, StoreError
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import Recipe, load_recipe
from tests.adapters.helpers import ADAPTERS, logits, settings, tokens
from tests.tiny_models import save_checkpoint, tiny_model, tiny_tokenizer

LAMP = Document("The lamp was lit by Ann at nine. " * 12, "Lamp")
BOAT = Document("No boat came in before the storm. " * 9, "Boat")
TOWER = Document("A tower of stone, and a stair of ninety steps. " * 5, "Tower")
LOG = Document(" ".join(f"On day {day} {name} lit the lamp." for day in range(9) for name in ("Ann", "Bob")))
QUESTIONS = ["Who lit the lamp?", "When?", "How many steps are there?"]


def recipe(kind: str = "lora", **changes: object) -> Recipe:
    trained = kind != "none"
    values = {
        "adapter": settings(kind).model_dump() if trained else {"type": "none"},
        "training": {"segment_tokens": 64, "stride_tokens": 48, "context_epochs": 2 * trained, "learning_rate": 0.02},
        "decoding": {"max_new_tokens": 8},
    }  # fmt: skip
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    return Recipe.model_validate(values)


def lifter(kind: str = "lora", *, window: int | None = None, **changes: object) -> Lifter:
    return Lifter(tiny_model(), tiny_tokenizer(), recipe(kind, **changes), window=window)


def answers(tool: Lifter, document: Document) -> list[str]:
    with tool.lift(document) as session:
        return session.answer(QUESTIONS)


class LostError(Exception):
    pass


def lose(*_: object) -> None:
    raise LostError


# --- nothing is left of a document ---------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(
    "ending", ["answers", "fails in training", "fails after the first step", "fails inside"]
)
def test_the_model_is_reset_bit_for_bit_however_the_document_ends(adapter, ending):
    tool = lifter(adapter)
    before, state = logits(tool.model, tokens()), AdapterState.capture(tool.model)
    frozen = {name: weight.clone() for name, weight in tool.model.state_dict().items()}
    if ending == "answers":
        with tool.lift(LAMP) as session:
            session.answer(QUESTIONS)
            assert not torch.equal(logits(tool.model, tokens()), before)
    elif ending == "fails inside":
        with pytest.raises(LostError), tool.lift(LAMP):
            lose()
    elif ending == "fails after the first step":
        with pytest.raises(LostError), tool.lift(LAMP, on_step=lose):
            pass
    else:
        handle = tool.model.get_input_embeddings().register_forward_hook(lose)
        with pytest.raises(LostError), tool.lift(LAMP):
            pass
        handle.remove()
    assert torch.equal(logits(tool.model, tokens()), before)
    for name, tensor in AdapterState.capture(tool.model).tensors.items():
        assert torch.equal(tensor, state.tensors[name]), name
    assert all(torch.equal(weight, frozen[name]) for name, weight in tool.model.state_dict().items())
    assert not tool.model.training
    assert all(parameter.grad is None for parameter in tool.model.parameters())


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_answers_do_not_depend_on_the_documents_before(adapter):
    alone = {document: answers(lifter(adapter), document) for document in (LAMP, BOAT, TOWER)}
    assert len({tuple(texts) for texts in alone.values()}) == 3
    tool = lifter(adapter)
    for document in (TOWER, LAMP, BOAT, LAMP):
        assert answers(tool, document) == alone[document]


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"samples_per_step": 2, "learning_rate": 0.005}},  # order of samples
        {"training": {"contextualized": True, "window_tokens": 40}},  # windows
        {"training": {"contextualized": True, "window_tokens": 40, "window_draw": "epoch"}},
        {"training": {"contextualized": True, "window_tokens": 40, "window_draw": "step"}},
        {"adapter": {"dropout": 0.5}},  # dropout
        {"decoding": {"temperature": 1.0}},  # sampling
    ],
    ids=["order", "windows", "windows by epoch", "windows by step", "dropout", "sampling"],
)
def test_all_that_is_random_comes_from_the_seed_and_the_document(changes):
    alone = answers(lifter(**changes), BOAT)
    torch.manual_seed(1234)
    tool = lifter(**changes)
    answers(tool, LAMP)
    torch.rand(7)
    assert answers(tool, BOAT) == alone
    assert answers(lifter(**changes, seed=1), BOAT) != alone


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tool = lifter(decoding={"temperature": 1.0})
    answers(tool, LAMP)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_differ_by_document_and_by_seed():
    seeds = {
        document_seed(seed, document) for seed, document in itertools.product((0, 1), (LAMP, BOAT, TOWER))
    }
    assert len(seeds) == 6
    assert document_seed(0, LAMP) == document_seed(0, Document(LAMP.text, LAMP.title))
    assert all(0 <= seed < 2**63 for seed in seeds)


# --- training ------------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_is_on_the_record():
    tool = lifter(training={"context_epochs": 6})
    steps: list[tuple[int, int, float]] = []
    with tool.lift(LAMP, on_step=lambda *step: steps.append(step)) as session:
        record = session.record
    assert record.losses[-1] < record.losses[0]
    assert steps == [(number, 6, loss) for number, loss in enumerate(record.losses, start=1)]
    assert record.tokens == len("Lamp\n") + len(LAMP.text)  # one token is one byte here
    segments = [64] * 8 + [record.tokens - 8 * 48] if record.tokens - 8 * 48 <= 64 else None
    assert segments is not None
    assert record.trained_tokens == 6 * sum(segments)
    assert record.supervised_tokens == 6 * (sum(segments) - len(segments))
    assert record.seconds["train"] > 0
    assert record.summary().startswith(f"Lamp: {record.tokens} tokens; 6 steps, loss ")


@pytest.mark.parametrize("wanted", [True, False])
def test_what_takes_long_shows_its_stages_unless_quiet_is_wanted(wanted, monkeypatch, capsys):
    monkeypatch.setattr("lift_eval.lifter.lifter.PATIENCE_SECONDS", 0)
    note = Document("The ship Silver Heron was built in 1842.", "Notes from Kirmoor")
    recipe = load_recipe("tiny", {"training.joint_epochs": 1, "training.context_epochs": 1})
    with Lifter.from_pretrained(recipe=recipe).lift(note, progress=wanted) as session:
        session.answer(["When was the ship Silver Heron built?"])
    shown = capsys.readouterr().err
    for stage in ("making pairs ", "training ", "answering "):
        assert (stage in shown) is wanted


def test_a_document_shorter_than_a_segment_is_legal():
    short = Document("A short one.")
    for changes in ({}, {"training": {"contextualized": True, "window_tokens": 512}}):
        with lifter(**changes).lift(short) as session:
            assert len(session.record.losses) == 2
            assert len(session.answer(["Why?"])) == 1


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_a_document_of_one_token_can_be_read_but_not_trained(adapter):
    tool = lifter(adapter)
    if adapter == "none":
        assert len(answers(tool, Document("x"))) == 3
        return
    with (
        pytest.raises(DocumentError, match="document 'x' has fewer than two tokens"),
        tool.lift(Document("x")),
    ):
        pass
    assert answers(tool, LAMP) == answers(lifter(adapter), LAMP)


# --- answering -----------------------------------------------------------------------------------------------------


def test_icl_is_the_same_line_with_the_model_as_it_is():
    tool = lifter("none")
    untouched, tokenizer = tiny_model(), tiny_tokenizer()
    prompts = [tokenizer(tool.encoder.render(LAMP, question).text)["input_ids"] for question in QUESTIONS]
    expected = [each.text for each in answer(untouched, tokenizer, prompts, Decoding(8), batch=16)]
    assert answers(tool, LAMP) == expected
    with tool.lift(LAMP) as session:
        assert (session.record.losses, session.record.trained_tokens) == ([], 0)


def test_decoding_as_the_checkpoint_says():
    def decoded(*, samples: bool, **decoding: object) -> list[str]:
        tool = lifter("none", decoding=decoding)
        tool.model.generation_config.update(do_sample=samples, temperature=2.0)
        return answers(tool, LAMP)

    greedy = decoded(samples=True)
    assert decoded(samples=False, source="checkpoint") == greedy
    assert decoded(samples=True, source="checkpoint") == decoded(samples=True, temperature=2.0) != greedy


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_base_model_answers_without_the_adapter(adapter):
    """Gated Memory changes the output from the start, and PiSSA moves weights: neither may show."""
    tool = lifter(adapter)
    answers(tool, LAMP)
    base = logits(tiny_model(), tokens())
    with tool.base_model():
        torch.testing.assert_close(logits(tool.model, tokens()), base, rtol=1e-4, atol=1e-4)


def test_a_document_answers_inside_its_block_alone():
    tool = lifter()
    with tool.lift(LAMP) as lamp:
        inside = lamp.answer(QUESTIONS)
    for use in (lambda: lamp.answer(QUESTIONS), lamp.train, lambda: lamp.scoring().__enter__()):
        with pytest.raises(DocumentError, match="document 'Lamp' is no longer lifted"):
            use()
    with tool.lift(BOAT), pytest.raises(DocumentError, match="document 'Lamp' is no longer lifted"):
        lamp.answer(QUESTIONS)
    assert answers(tool, LAMP) == inside


def test_a_model_holds_one_document_at_a_time():
    tool = lifter()
    alone = answers(tool, LAMP)
    with tool.lift(LAMP) as lamp:
        with pytest.raises(DocumentError, match="'Lamp' is lifted; leave its 'with' block before 'Boat' is"):
            answers(tool, BOAT)
        with pytest.raises(DocumentError, match="leave its 'with' block"), tool.base_model():
            pass
        assert lamp.answer(QUESTIONS) == alone


@pytest.mark.parametrize("questions", ["Who?", None, 5])
def test_what_is_no_list_of_questions_is_refused(questions):
    with (
        lifter("none").lift(LAMP) as lamp,
        pytest.raises(DocumentError, match=r"write answer\(\[question\]\)"),
    ):
        lamp.answer(questions)


def test_questions_may_come_one_after_the_other():
    with lifter("none").lift(LAMP) as lamp:
        assert lamp.answer(iter(QUESTIONS)) == lamp.answer(QUESTIONS)


@pytest.mark.parametrize("document", ["The lamp was lit by Ann at nine.", None])
def test_a_text_alone_is_no_document(document):
    with pytest.raises(DocumentError, match=r"a Document must be lifted, got .*; write Document\(text\)"):
        lifter().lift(document).__enter__()


def test_the_document_may_be_left_out_of_the_prompt():
    tool = lifter(prompt={"document": "none"})
    with tool.lift(LAMP) as session:
        session.answer(QUESTIONS)
        assert session.record.kept == 0.0
    with lifter().lift(LAMP) as session:
        session.answer(QUESTIONS)
        assert (session.record.kept, session.record.questions, session.record.incomplete_answers) == (
            1.0,
            3,
            3,
        )
    with lifter(prompt={"max_tokens": 300}).lift(LAMP) as session:
        session.answer(QUESTIONS)
        assert 0 < session.record.kept < 1


@pytest.mark.parametrize(
    "beginning", ["", "Read these passages of a log, and nothing else, to answer what is asked: "]
)
def test_questions_with_passages_of_their_own_are_answered_together_as_one_by_one(beginning):
    """Whether their prompts begin alike or not."""
    template = beginning + "{{ document }}\n{{ question }}"
    retrieved = {"document": "retrieved", "passage_tokens": 40, "passages": 3, "template": template}
    with lifter(prompt=retrieved).lift(LOG) as session:
        together = session.answer(QUESTIONS)
        assert together == [session.answer([question])[0] for question in QUESTIONS]
        assert 0 < session.record.kept < 1


@pytest.mark.parametrize("batch", [1, 2])
def test_how_work_is_laid_out_changes_no_answer(batch):
    assert answers(lifter(compute={"answer_batch": batch, "micro_batch_tokens": 1}), LAMP) == answers(
        lifter(), LAMP
    )


# --- what does not fit ---------------------------------------------------------------------------------------------


def test_samples_longer_than_the_window_are_refused_before_anything_is_done():
    with pytest.raises(
        RecipeError, match=r"a training sample of 64 tokens must fit the model's window of 50"
    ):
        lifter(window=50)
    with pytest.raises(RecipeError, match=r"of 181 tokens must fit .* of 180.*training\.window_tokens"):
        lifter(
            window=180,
            training={"contextualized": True, "window_tokens": 60, "recite_instruction": "\n" * 54},
        )
    lifter(
        window=181, training={"contextualized": True, "window_tokens": 60, "recite_instruction": "\n" * 54}
    )
    lifter("none", window=50)


def test_a_question_that_does_not_fit_is_refused_and_the_model_is_reset():
    tool = lifter(window=100)
    before = logits(tool.model, tokens())
    with pytest.raises(DocumentError, match="but only 92 fit"), tool.lift(LAMP) as session:
        session.answer(["Why?" * 50])
    assert torch.equal(logits(tool.model, tokens()), before)


# --- from a folder -------------------------------------------------------------------------------------------------


def test_from_pretrained_is_the_same_as_by_hand(tmp_path):
    loaded = Lifter.from_pretrained(save_checkpoint(tmp_path), recipe(), device="cpu")
    assert answers(loaded, LAMP) == answers(lifter(), LAMP)


def test_from_pretrained_puts_the_bos_that_the_recipe_asks_for(tmp_path):
    folder = save_checkpoint(tmp_path)  # of a tokenizer that puts none
    for bos in (True, False, None):
        tool = Lifter.from_pretrained(folder, recipe(prompt={"bos": bos}), device="cpu")
        ids = tool.encoder.encode(tool.encoder.render(LAMP, "Why?"), 8).ids
        assert (ids[0] == tool.tokenizer.bos_token_id) == bool(bos)


def test_from_pretrained_says_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match="is not a folder"):
        Lifter.from_pretrained(tmp_path / "nothing", recipe(), device="cpu")
    with pytest.raises(RecipeError, match="no shipped recipe has this name"):
        Lifter.from_pretrained(tmp_path, "lroa", device="cpu")


def test_the_record_holds_the_mean_gate_of_each_layer_over_all_answers() -> None:
    lifter = Lifter(tiny_model(), tiny_tokenizer(), recipe("gated_memory"))
    with lifter.lift(LAMP) as session:
        session.answer(QUESTIONS[:1])
        first = list(session.record.gates)
        session.answer(QUESTIONS[:1])
        assert session.record.gates == pytest.approx(first)
    assert len(first) == 2
    assert all(0 < gate < 0.5 for gate in first)


def test_a_store_that_is_no_path_is_told_before_anything_is_loaded():
    with pytest.raises(StoreError, match="store='st' must be 'off' or the path of a folder"):
        Lifter.from_pretrained("/no/such/folder", store="st")


@pytest.mark.parametrize(
    ("question", "rule"),
    [
        ("Who lit \ud83d the lamp?", "must be valid Unicode, got half of a surrogate pair"),
        (None, "must be a string, got None"),
        (7, "must be a string, got 7"),
        (" ", "must contain at least one word, got ' '"),
    ],
)
def test_a_question_that_is_no_text_is_refused_by_its_number(question, rule):
    with lifter("none").lift(LAMP) as session, pytest.raises(DocumentError, match=f"question 1 {rule}"):
        session.answer(["Who lit the lamp?", question])
