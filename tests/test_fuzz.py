"""Whatever stands in a file, an argument or a reply: reading it ends in a value or in a `LiftEvalError`.

Every reader of the package is given input that was right and is damaged: bytes flipped, cut, put in and taken out, or
a part of the data replaced by anything that JSON can say.
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lift_eval.answering import decoding
from lift_eval.benchmarks import longbench, loogle, niah, tiny
from lift_eval.benchmarks.data import Options, parse_jsonl, read_options, read_zipped_jsonl
from lift_eval.benchmarks.fetch import FetchedFile, _write_manifest
from lift_eval.benchmarks.metrics import choice, cloze, timeline
from lift_eval.benchmarks.metrics.longbench import classification_score, retrieval_score
from lift_eval.distribution.cluster import cluster_settings
from lift_eval.document import find_document
from lift_eval.errors import LiftEvalError
from lift_eval.harness.arguments import read_arguments
from lift_eval.judging.judge import Judge, JudgedAnswer, Verdict, VerdictStore
from lift_eval.judging.saved import agreements, judge_saved
from lift_eval.recipe import AuxiliarySettings, load_recipe
from lift_eval.reporting.experiment import load_experiment
from lift_eval.reporting.published import published_rows
from lift_eval.reporting.render import render_results
from lift_eval.results.reading import read_runs
from lift_eval.results.samples import compact_samples
from lift_eval.store import KeptAnswer, KeptAnswers, Pairs, Store, Training, entry_key
from lift_eval.synthesis.replies import read_reply
from tests.conftest import ROOT
from tests.reporting.helpers import DATE, document_record, rows, write_run
from tests.store import test_faults
from tests.store.test_faults import ADAPTER, KEY, TENSORS, TEXT

T = TypeVar("T")
TRIED: dict[str, int] = {}
"""Inputs by test."""
TIMES = int(os.environ.get("LIFT_EVAL_FUZZ", "0"))
"""How many times as many inputs are tried, drawn anew; by default the same ones are tried each time."""


def fuzz(examples: int, *strategies: st.SearchStrategy[Any]) -> Callable[[T], T]:
    """Give a test damaged input, and count it."""

    def decorate(test: Any) -> Any:
        TRIED[test.__name__] = examples
        quiet = settings(
            max_examples=examples * max(TIMES, 1),
            derandomize=not TIMES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        return quiet(given(*strategies)(test))

    return decorate


# --- damage -----------------------------------------------------------------------------------------------------


STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**30), 2**63, 0, -1]),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        ["", " ", "\ud800", "\0", "../../etc/passwd", "/", "{{ x }}", "{0}", "nan", "1e999", "[" * 3000]
    ),
    st.lists(st.integers() | st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers() | st.none(), max_size=3),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where anything stands in plain data."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))


@st.composite
def reshaped(draw: Any, whole: Any) -> Any:
    """Plain data in which one or a few parts are replaced, left out or renamed."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(sorted(places(value), key=str))) or [None]
        if last is None:
            return draw(STRANGE)
        parent = value
        for key in path:
            parent = parent[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "drop", "rename"]))
        if how == "replace" or isinstance(parent, list):
            parent[last] = draw(STRANGE)
        else:
            kept = parent.pop(last)
            if how == "rename":
                parent[draw(st.text(max_size=8))] = kept
        if not isinstance(value, (dict, list)):
            break
    return value


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Bytes flipped, cut, put in and taken out, and bytes that were never right."""
    return st.one_of(
        test_faults.damaged(whole),
        st.sampled_from(
            [b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf", b'{"a": ' + b"9" * 5000 + b"}"]
        ),
    )


def json_lines(*rows: Any) -> st.SearchStrategy[bytes]:
    """Files of JSON lines with damage of either kind."""
    whole = "".join(json.dumps(row) + "\n" for row in rows).encode()
    lines = reshaped(list(rows)).map(
        lambda value: "".join(
            json.dumps(row) + "\n" for row in (value if isinstance(value, list) else [value])
        ).encode()
    )
    return damaged(whole) | lines | lines


def ends_well(read: Callable[[], Any]) -> None:
    """Read, and let nothing but errors of ours pass for an end."""
    with suppress(LiftEvalError):
        read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# --- data -------------------------------------------------------------------------------------------------------


NEW_FORM = {
    "doc_id": "1", "id": "2", "title": "Ada", "context": "Ada went to Lyon.", "question": "Where?", "answer": "Lyon",
    "evidence": ["Ada went"], "type": "Computation",
}  # fmt: skip
PAIR = {"Q": "Where?", "A": "Lyon", "S": ["Ada went"], "type": "computation", "depth": 0.5}
OLD_FORM = {
    "input": "Ada went to Lyon. " * 3,
    "title": "Ada",
    "qa_pairs": [PAIR, {**PAIR, "Q": "Who?"}],
    "output": "x",
}
LITERAL = {**OLD_FORM, "qa_pairs": repr([PAIR])}
CLOZE = {**OLD_FORM, "qa_pairs": [{"Q": "<mask-0> went.", "A": {"<mask-0>": "Ada"}}]}
LONGBENCH = {
    "_id": "a", "dataset": "qasper", "input": "Where?", "context": "Ada went to Lyon. ", "answers": ["Lyon"],
    "all_classes": None, "length": 3, "language": "en",
}  # fmt: skip


@fuzz(
    400,
    json_lines(NEW_FORM, {**NEW_FORM, "id": "3"}) | json_lines(OLD_FORM, LITERAL, CLOZE),
    st.sampled_from(sorted(loogle.FILES)),
)
def test_rows_of_loogle(data: bytes, subset: str) -> None:
    ends_well(lambda: list(loogle.read_rows(parse_jsonl(io.BytesIO(data), "rows.jsonl"), subset)))


@fuzz(200, json_lines(LONGBENCH, {**LONGBENCH, "_id": "b"}))
def test_rows_of_longbench(data: bytes) -> None:
    ends_well(lambda: list(longbench.read_rows(parse_jsonl(io.BytesIO(data), "rows.jsonl"), "qasper")))


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/qasper.jsonl", json.dumps(LONGBENCH) + "\n")
    return content.getvalue()


@fuzz(250, damaged(zipped()))
def test_archives(folder: Path, data: bytes) -> None:
    (folder / "data.zip").write_bytes(data)
    ends_well(lambda: list(read_zipped_jsonl(folder / "data.zip", "data/qasper.jsonl")))


ROW = {"context": "Ada went to Lyon. " * 20, "title": "Ada", "question": "Where?"}


@fuzz(100, reshaped(ROW), st.sampled_from([None, "context", "title", "text"]))
def test_documents_of_rows(row: Any, field: str | None) -> None:
    if isinstance(row, dict):
        ends_well(lambda: find_document(row, ROW["context"], field))


METADATA = {
    "data_dir": "/tmp", "prompt_style": "a", "judge": "m", "split": "dev", "documents": 3, "words": 500,
    "lengths": [500, 1000], "depths": [0, 0.5], "samples": 2, "needle": "n", "question": "q", "keywords": ["k"],
    "haystack_dir": "h",
}  # fmt: skip


@fuzz(200, reshaped(METADATA), st.sampled_from([Options, tiny.TinyOptions, niah.NiahOptions]))
def test_metadata_of_tasks(metadata: Any, kind: type[Options]) -> None:
    if isinstance(metadata, dict):
        ends_well(lambda: read_options(kind, metadata))


# --- recipes and arguments ----------------------------------------------------------------------------------------


RECIPE = {
    **yaml.safe_load((ROOT / "lift_eval" / "recipe" / "shipped" / "tiny.yaml").read_text()),
    "prompt": {"template": "{{ title }} {{ document }} {{ question }}", "max_tokens": 99},
}  # fmt: skip


@fuzz(
    250,
    reshaped(RECIPE).map(lambda data: yaml.dump(data).encode("utf-8", "replace"))
    | damaged(yaml.dump(RECIPE).encode()),
)
def test_recipes(folder: Path, data: bytes) -> None:
    (folder / "recipe.yaml").write_bytes(data)
    ends_well(lambda: load_recipe(folder / "recipe.yaml"))


ARGUMENTS = {
    "adapter.rank": 4, "adapter.type": "lora", "training.learning_rate": 1e-3, "training.betas": [0.9, 0.99],
    "auxiliary.request": "{{ passage }}", "auxiliary.labels": ["a", "b"], "seed": 1, "dtype": "float32",
    "prompt.template": "{{ document }} {{ question }}", "workers.gpus": 1, "workers.timeout": 5.0,
}  # fmt: skip


@fuzz(250, reshaped(ARGUMENTS), st.integers() | STRANGE)
def test_model_arguments(given: Any, workers: Any) -> None:
    if isinstance(given, dict):
        arguments = {str(key): value for key, value in given.items()}
        ends_well(lambda: cluster_settings(workers, arguments))
        ends_well(lambda: read_arguments("lora", arguments))


# --- reports ------------------------------------------------------------------------------------------------------


PUBLISHED = {
    "sources": {"paper": "A paper"},
    "tables": {
        "t": {
            "metric": "accuracy", "columns": ["a"], "cautions": ["c"],
            "rows": [{"source": "paper", "model": "M", "method": "LIFT", "values": [1.0]}],
        }
    },
}  # fmt: skip
EXPERIMENT = {
    "title": "T", "description": "D", "results": "results", "baseline": "ICL", "seeds": [0, 1], "model_args": {"a": 1},
    "options": {"metadata": {"documents": 3}, "limit": 3},
    "rows": [
        {"name": "ICL", "model_args": {"recipe": "icl"}},
        {"name": "LIFT", "task_args": {"task": {"recipe": "lora"}}},
    ],
    "columns": [{"label": "A", "task": ["task"], "metric": "m", "scale": 1, "decimals": 1}],
    "published": [{"file": "published.yaml", "table": "t", "columns": {"A": "a"}, "models": ["M"]}],
}  # fmt: skip


def as_yaml(whole: Any) -> st.SearchStrategy[bytes]:
    return reshaped(whole).map(lambda data: yaml.dump(data).encode("utf-8", "replace")) | damaged(
        yaml.dump(whole).encode()
    )


@fuzz(250, as_yaml(EXPERIMENT))
def test_experiments(folder: Path, data: bytes) -> None:
    (folder / "experiment.yaml").write_bytes(data)
    (folder / "published.yaml").write_text(yaml.dump(PUBLISHED))
    ends_well(lambda: published_rows(load_experiment(folder / "experiment.yaml")))


@fuzz(100, as_yaml(PUBLISHED))
def test_published_figures(folder: Path, data: bytes) -> None:
    (folder / "experiment.yaml").write_text(yaml.dump(EXPERIMENT))
    (folder / "published.yaml").write_bytes(data)
    ends_well(lambda: published_rows(load_experiment(folder / "experiment.yaml")))


def whole_run() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A results file and its samples, as they are read."""
    with tempfile.TemporaryDirectory() as place:
        data = rows(2, 2)
        documents = [document_record(f"doc{number}") for number in range(2)]
        path = write_run(
            Path(place),
            {"task": [1.0, 0.0, 1.0, 0.0]},
            data,
            model_args={"recipe": "lora"},
            documents=documents,
        )
        samples = (Path(place) / f"samples_task_{DATE}.jsonl").read_text().splitlines()
        return json.loads(path.read_text()), [json.loads(line) for line in samples]


RESULTS, SAMPLES = whole_run()


@pytest.fixture(scope="module")
def run_folder(folder: Path) -> Path:
    (folder / "run").mkdir()
    return folder / "run"


def write(folder: Path, results: bytes, samples: bytes) -> None:
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    (folder / f"results_{DATE}.json").write_bytes(results)
    (folder / f"samples_task_{DATE}.jsonl").write_bytes(samples)


def read_all(folder: Path) -> None:
    for run in read_runs([folder]):
        for task in run.tasks.values():
            ends_well(lambda task=task: task.samples)


WHOLE = json.dumps(RESULTS).encode(), "".join(json.dumps(row) + "\n" for row in SAMPLES).encode()


@fuzz(250, reshaped(RESULTS).map(lambda data: json.dumps(data).encode()) | damaged(WHOLE[0]))
def test_results_files(run_folder: Path, data: bytes) -> None:
    write(run_folder, data, WHOLE[1])
    ends_well(lambda: read_all(run_folder))


@fuzz(250, json_lines(*SAMPLES))
def test_samples(run_folder: Path, data: bytes) -> None:
    write(run_folder, WHOLE[0], data)
    ends_well(lambda: read_all(run_folder))
    ends_well(lambda: compact_samples(run_folder))


@fuzz(40, reshaped(RESULTS).map(lambda data: json.dumps(data).encode()))
def test_reports_of_results(run_folder: Path, data: bytes) -> None:
    write(run_folder, data, WHOLE[1])
    ends_well(lambda: render_results([run_folder], run_folder.parent / "report"))


@fuzz(60, json_lines(*SAMPLES))
def test_reports_of_samples(run_folder: Path, data: bytes) -> None:
    write(run_folder, WHOLE[0], data)
    ends_well(lambda: render_results([run_folder], run_folder.parent / "report"))


# --- judged answers and manifests ---------------------------------------------------------------------------------


JUDGED = [
    {**sample, "doc": {**sample["doc"], "judged_as": "answer"}, "filtered_resps": [""]} for sample in SAMPLES
]
SUMMARY = {
    "task": "task", "samples": "s.jsonl", "judge": "m", "prompt": "p", "questions": 2, "score": 0.5, "by_type": {},
    "unclear": 0, "failed": 0, "causes": {}, "values": {"0": 1.0, "1": 0.0},
}  # fmt: skip


@fuzz(100, json_lines(*JUDGED))
def test_saved_answers(run_folder: Path, data: bytes) -> None:
    """Empty answers are wrong by rule, so that no server is asked about what is still whole."""
    write(run_folder, WHOLE[0], data)
    ends_well(lambda: judge_saved(run_folder, Unasked("m", run_folder.parent)))


class Unasked(Judge):
    """A judge that asks no server."""

    def _ask_all(self, *_: Any) -> dict[str, int]:
        return {}


@fuzz(
    60, reshaped(SUMMARY).map(lambda data: json.dumps(data).encode()) | damaged(json.dumps(SUMMARY).encode())
)
def test_summaries_of_judges(run_folder: Path, data: bytes) -> None:
    write(run_folder, *WHOLE)
    (run_folder / "judged_a.json").write_bytes(data)
    (run_folder / "judged_b.json").write_text(json.dumps({**SUMMARY, "judge": "another"}))
    ends_well(lambda: agreements(run_folder))


@fuzz(100, json_lines({"key": "k", "reply": "True", "value": 1.0}, {"key": "l", "reply": "?", "value": None}))
def test_verdicts(folder: Path, data: bytes) -> None:
    store = VerdictStore("m", folder / "verdicts")
    store.path.parent.mkdir(exist_ok=True)
    store.path.write_bytes(data)
    answer = JudgedAnswer("q", "r", "p")
    ends_well(lambda: store.get(answer))
    ends_well(lambda: VerdictStore("m", folder / "verdicts").add(answer, Verdict("True", 1.0)))


MANIFEST = {"a/b.jsonl": {"benchmark": "a", "path": "a/b.jsonl", "size": 3}}


@fuzz(
    60,
    reshaped(MANIFEST).map(lambda data: json.dumps(data).encode()) | damaged(json.dumps(MANIFEST).encode()),
)
def test_manifests_of_downloads(folder: Path, data: bytes) -> None:
    (folder / "manifest.json").write_bytes(data)
    ends_well(lambda: _write_manifest(folder / "manifest.json", [FetchedFile("a", "a/b", "r", "c", 1, "d")]))


# --- the store ----------------------------------------------------------------------------------------------------


@fuzz(200, damaged(TEXT) | json_lines(*map(json.loads, TEXT.splitlines())))
def test_entries_of_text(folder: Path, data: bytes) -> None:
    store = Store(folder / "store")
    store.save(KEY, KeptAnswers(answers=[KeptAnswer(text="yes", complete=True)]))
    (store.folder / "answers" / f"{KEY}.jsonl").write_bytes(data)
    ends_well(lambda: store.show(KEY))
    assert store.load(KeptAnswers, KEY) is None or data == TEXT
    store.verify()


@fuzz(200, damaged(ADAPTER))
def test_entries_of_adapters(folder: Path, data: bytes) -> None:
    store = Store(folder / "store")
    store.save_tensors(
        KEY, Training(losses=[], trained_tokens=1, supervised_tokens=1, pairs={}, seconds={}), TENSORS
    )
    (store.folder / "adapters" / f"{KEY}.safetensors").write_bytes(data)
    ends_well(lambda: store.show(KEY))
    assert store.load_tensors(Training, KEY, TENSORS) is None or data == ADAPTER
    store.verify()


@fuzz(60, st.text(max_size=70) | st.sampled_from(["..", "/etc/passwd", "\0", "a" * 64, "0" * 64 + "/.."]))
def test_keys_asked_for(folder: Path, key: str) -> None:
    store = Store(folder / "store")
    store.save(entry_key("pairs", n=1), Pairs(pairs=[]))
    ends_well(lambda: store.show(key))


# --- what models write --------------------------------------------------------------------------------------------


PAIRS = json.dumps({"pairs": [{"question": "Where?", "answer": "Lyon", "evidence": "Ada went"}]})
LABELLED = "Question: Where?\nAnswer: Lyon\nEvidence: Ada went\n"
WORDS = st.text(alphabet=st.sampled_from(list("{}[]()'\":,123AB.<>- \n*")), max_size=60)


def replies(*whole: str) -> st.SearchStrategy[str]:
    return st.one_of(
        *(damaged(text.encode()).map(lambda data: data.decode("utf-8", "surrogateescape")) for text in whole),
        WORDS,
    )


@fuzz(200, replies(PAIRS, LABELLED), st.sampled_from(["sentences", "passages", "paragraphs"]))
def test_replies_of_generators(reply: str, strategy: Any) -> None:
    for complete in (True, False):
        read_reply(decoding.Answer(reply, complete), AuxiliarySettings(strategy=strategy))


@fuzz(
    200, replies('{"<mask-0>": "Ada", "<mask-1>": "Lyon"}', "The order is (2), (1), 3.", "A. Lyon\nB) Oran")
)
def test_answers_that_are_scored(answer: str) -> None:
    """Metrics never raise: a bad answer is a wrong one."""
    cloze.read_mapping(answer)
    cloze.cloze_matches(answer, {"<mask-0>": "Ada"})
    timeline.read_order(answer, [1, 2, 3])
    choice.read_choice(answer, choice.read_options("Which?\nA. Lyon\nB. Oran"))
    scores = loogle.text_scores(answer, "Lyon")
    scores["retrieval"] = retrieval_score(answer, "Paragraph 3")
    scores["classification"] = classification_score(answer, "Lyon", ["Lyon", "Oran"])
    assert all(math.isfinite(score) and 0 <= score <= 1 for score in scores.values())


@pytest.mark.parametrize("bomb", [b"[" * 200_000, b'{"a":' * 200_000, b'{"a": ' + b"9" * 10_000 + b"}"])
def test_nesting_and_numbers_without_end_are_refused_by_every_reader_of_json(
    run_folder: Path, bomb: bytes
) -> None:
    with pytest.raises(LiftEvalError, match="not JSON"):
        list(parse_jsonl(io.BytesIO(bomb), "rows.jsonl"))
    write(run_folder, bomb, WHOLE[1])
    with pytest.raises(LiftEvalError, match="incomplete JSON"):
        read_runs([run_folder])
    write(run_folder, WHOLE[0], bomb)
    with pytest.raises(LiftEvalError, match="incomplete JSON"):
        assert read_runs([run_folder])[0].tasks["task"].samples
    with pytest.raises(LiftEvalError, match="incomplete JSON"):
        judge_saved(run_folder, Unasked("m", run_folder.parent))


def test_enough_was_tried() -> None:
    assert sum(TRIED.values()) >= 2000
