"""Documents that fail, signals, and how a run on the command line ends."""

from __future__ import annotations

import math
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lm_eval.tasks.manager
import pytest
import torch

import lift_eval.lifter.document_training
from lift_eval import _autoload
from lift_eval.distribution.progress import interruptible
from lift_eval.errors import DocumentError, GeneratorError, Interrupted, TrainingError
from lift_eval.harness.exit_status import GIVEN_UP, USER_FAULT, note_given_up, set_exit_status
from tests import line

FAULTS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB."),
    GeneratorError("the server of pairs does not answer"),
    TrainingError("the loss of step 2 is nan"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return line.prepare(tmp_path_factory.mktemp("line"), documents=3)


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, Any]:
    """The run without any fault."""
    done = line.run(folder, store="off")
    assert done is not None
    return done


Finetune = Callable[..., Any]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], list[float]]:
    """Puts something before each fine-tuning, which is called with its number; returns the learning rates used."""

    def put(before: Callable[[int], None]) -> list[float]:
        finetune: Finetune = lift_eval.lifter.document_training.finetune
        rates: list[float] = []

        def counted(model: Any, epochs: Any, settings: Any, **named: Any) -> Any:
            rates.append(settings.learning_rate)
            before(len(rates))
            return finetune(model, epochs, settings, **named)

        monkeypatch.setattr(lift_eval.lifter.document_training, "finetune", counted)
        return rates

    return put


def fails(fault: Exception, *numbers: int) -> Callable[[int], None]:
    def before(number: int) -> None:
        if number in numbers:
            raise fault

    return before


# --- documents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_document_that_fails_is_given_up_and_the_run_goes_on(
    fault: Exception, folder: Path, whole: dict[str, Any], training: Any, caplog: pytest.LogCaptureFixture
) -> None:
    training(fails(fault, 2, 3) if isinstance(fault, TrainingError) else fails(fault, 2))
    done = line.run(folder, ("answers",), store="off")
    assert done is not None
    documents = {document["title"]: document for document in done["record"]["documents"]}
    assert documents["Article 1"]["failure"] == f"{type(fault).__name__}: {fault}"
    assert [documents[f"Article {number}"]["failure"] for number in (0, 2)] == ["", ""]
    totals = done["record"]["totals"]
    assert (totals["failed_documents"], totals["lost_questions"], totals["documents"]) == (1, 2, 3)
    for (row, answer), (_, undisturbed) in zip(
        done["answers"]["answers"], whole["answers"]["answers"], strict=True
    ):
        assert answer == ([[""]] if row % 3 == 1 else undisturbed)
    assert "document given up, its questions count as wrong: Article 1" in caplog.text


def test_scores_of_a_document_given_up_do_not_break_the_metrics(folder: Path, training: Any) -> None:
    training(fails(FAULTS[0], 2, 5))
    done = line.run(folder, ("choices", "texts"), store="off")
    assert done is not None
    assert done["answers"]["choices"][1] == [1, [[[-math.inf, False]]] * 3]
    assert done["answers"]["texts"][1] == [1, [[-math.inf]]]
    assert done["scores"]["texts"]["bits_per_byte,none"] == math.inf  # a text without any probability
    assert done["record"]["totals"]["failed_documents"] == 1


def test_multiple_choice_about_documents_given_up_counts_as_wrong(folder: Path, training: Any) -> None:
    """Also where the first of the choices, which are all alike, is the right one."""
    training(fails(FAULTS[0], 1, 2, 3))
    done = line.run(folder, ("choices",), store="off")
    assert done is not None
    assert done["scores"]["choices"]["acc,none"] == 0
    totals = done["record"]["totals"]
    assert (totals["failed_documents"], totals["lost_questions"]) == (3, 6)


def test_a_training_that_diverges_is_tried_once_more_at_a_tenth_of_the_rate(
    folder: Path, training: Any, tmp_path: Path
) -> None:
    rates = training(fails(FAULTS[2], 2))
    first = line.run(folder, ("answers",), store=str(tmp_path / "store"))
    assert first is not None
    assert rates == pytest.approx([0.02, 0.02, 0.002, 0.02])
    records = {document["title"]: document for document in first["record"]["documents"]}
    assert records["Article 1"]["retried"] == "the loss of step 2 is nan"
    assert records["Article 1"]["losses"]
    assert (records["Article 1"]["failure"], records["Article 0"]["retried"]) == ("", "")
    assert first["record"]["totals"]["retried_documents"] == 1
    again = line.run(folder, ("answers",), store=str(tmp_path / "store"))
    assert again is not None
    assert len(rates) == 4  # all adapters are from the store, that one too
    assert again["answers"] == first["answers"]
    assert again["record"]["totals"]["retried_documents"] == 1


def test_a_training_that_really_diverges_twice_is_given_up(folder: Path) -> None:
    hopeless = {"training.learning_rate": 1e38, "training.context_epochs": 3}
    done = line.run(folder, ("answers",), store="off", **hopeless)
    assert done is not None
    assert done["record"]["totals"]["failed_documents"] == 3
    for document in done["record"]["documents"]:
        assert document["failure"].startswith("TrainingError: ")
        assert document["retried"]


def test_a_document_given_up_leaves_nothing_in_the_model_and_nothing_in_the_store(
    folder: Path, whole: dict[str, Any], training: Any, tmp_path: Path
) -> None:
    training(fails(FAULTS[0], 2))
    store = tmp_path / "store"
    line.run(folder, ("answers",), store=str(store))
    assert len(list((store / "adapters").iterdir())) == 2
    done = line.run(folder, ("answers",), store=str(store))
    assert done is not None
    assert done["answers"]["answers"] == whole["answers"]["answers"]
    assert done["record"]["totals"]["failed_documents"] == 0


def test_the_order_of_documents_changes_nothing(folder: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    rows = (folder / "rows.jsonl").read_text().splitlines()
    (tmp_path / "checkpoint").symlink_to(folder / "checkpoint")
    (tmp_path / "rows.jsonl").write_text("\n".join(reversed(rows)) + "\n")
    done = line.run(tmp_path, store="off")
    assert done is not None
    for name, answers in whole["answers"].items():
        assert [answer for _, answer in done["answers"][name]] == [answer for _, answer in answers[::-1]]
    assert line.trainings(done) == line.trainings(whole)


# --- signals ----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nobody_else_handles_term() -> Iterator[None]:
    """Ray leaves a handler of its own in the process that started it, which may be this one."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_how_to_go_on(
    number: signal.Signals,
    status: int,
    folder: Path,
    whole: dict[str, Any],
    training: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "store"
    rates = training(lambda training: os.kill(os.getpid(), number) if training == 2 else None)
    with pytest.raises(SystemExit) as end, set_exit_status():
        line.run(folder, store=str(store))
    assert end.value.code == status
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"lift_eval: stopped, 1 of 3 documents finished and kept in {store}; the same command continues from there"
    )
    done = line.run(folder, store=str(store))
    assert done is not None
    assert done["answers"] == whole["answers"]
    assert len(rates) == 4  # the first document was not trained again
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_ctrl_c_before_any_document_ends_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "lift_eval.harness.model.load_model", lambda *_, **__: signal.raise_signal(signal.SIGINT)
    )
    with pytest.raises(SystemExit) as end, set_exit_status():
        line.run(folder, store="off")
    assert end.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "lift_eval: interrupted; run the same command again"


def test_in_a_notebook_ctrl_c_is_the_interrupt_that_it_always_is() -> None:
    with (
        pytest.raises(KeyboardInterrupt, match="the same command") as interrupt,
        interruptible(lambda: "the same command continues"),
    ):
        signal.raise_signal(signal.SIGINT)
    assert isinstance(interrupt.value, Interrupted)


def test_a_handler_of_somebody_else_stays() -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with interruptible(lambda: ""):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


# --- the end of a command -----------------------------------------------------------------------------------------


def test_a_run_that_gave_documents_up_ends_with_their_list_and_a_status(
    folder: Path, training: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    training(fails(FAULTS[0], 1, 3))
    with pytest.raises(SystemExit) as end, set_exit_status():
        line.run(folder, ("answers",), store="off")
    assert end.value.code == GIVEN_UP == 3
    *_, title, first, second = capsys.readouterr().err.splitlines()
    assert title == "lift_eval: 2 documents given up, whose questions count as wrong:"
    assert first.startswith("Article 0: ")
    assert second.startswith("Article 2: ")
    assert second.endswith("GIVEN UP: OutOfMemoryError: CUDA out of memory. Tried to allocate 3 GiB.")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (DocumentError("row 3 has no text"), "lift_eval: error: row 3 has no text\n"),
        (ValueError("task.build_requests() did not find any docs!"), "lift_eval: error: a task has no row"),
    ],
)
def test_what_a_user_can_mend_ends_in_one_line(
    fault: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, set_exit_status():
        raise fault
    assert end.value.code == USER_FAULT
    assert capsys.readouterr().err.startswith(said)


def test_other_exceptions_and_good_ends_are_left_alone() -> None:
    with pytest.raises(ValueError, match="a fault of the program"), set_exit_status():
        raise ValueError("a fault of the program")
    with set_exit_status():
        pass
    note_given_up(["outside of a command there is nobody to tell"])
    with set_exit_status():
        pass


def test_lm_evals_own_command_line_ends_so() -> None:
    from lm_eval._cli.harness import HarnessCLI

    _autoload.register()
    with pytest.raises(SystemExit) as end:
        HarnessCLI().execute(Namespace(func=lambda _: note_given_up(["Article 1"])))
    assert end.value.code == GIVEN_UP


def test_a_wrong_argument_on_lm_evals_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lm_eval.__main__ import cli_evaluate

    _autoload.register()
    # lm-eval's own tasks, thousands of files, are left out.
    monkeypatch.setattr(lm_eval.tasks.manager, "__file__", str(tmp_path / "manager.py"))
    arguments = ["--model", "lift", "--model_args", "adpter.rank=3", "--tasks", "lift_tiny_shortqa"]
    monkeypatch.setattr(sys, "argv", ["lm_eval", "run", *arguments])
    with pytest.raises(SystemExit) as end:
        cli_evaluate()
    assert end.value.code == USER_FAULT
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("lift_eval: error: ")
    assert "did you mean 'adapter" in said
