from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lift_eval.benchmarks import niah
from lift_eval.errors import DocumentError, RecipeError
from tests.tiny_models import tiny_tokenizer

PROMPTS = {"niah": "{context}\nQuestion: {question}\nAnswer:"}
WORDS = niah.TokenCounter.of(None)
TEXT = " ".join(f"Sentence {n} says that {n} is a number." for n in range(300))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(niah, "WORDS_OF_WORLD", 3000)  # enough for what is asked here


def grid(text: str = TEXT, tokens: niah.TokenCounter = WORDS, **changes: object) -> list[dict[str, object]]:
    options = niah.NiahOptions.model_validate(
        {"lengths": [200, 400], "depths": [0, 0.5, 1], "samples": 2} | changes
    )
    return list(niah.build_grid(options, text, tokens))


def test_the_defaults_are_the_published_setting() -> None:
    options = niah.NiahOptions()
    assert options.lengths == (1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000)
    assert options.depths == (0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert options.samples == 10
    assert options.keywords == ("sandwich", "dolores park", "sunny")
    assert all(keyword in options.needle.lower() for keyword in options.keywords)


def test_every_cell_has_its_samples_at_its_length_and_depth() -> None:
    rows = grid()
    assert [(row["length"], row["depth"], row["sample"]) for row in rows] == [
        (length, depth, sample) for length in (200, 400) for depth in (0, 0.5, 1) for sample in (0, 1)
    ]
    needle = niah.NiahOptions().needle
    for row in rows:
        context = str(row["context"])
        assert context.count(needle) == 1
        assert len(WORDS.ends(context)) == pytest.approx(int(str(row["length"])), abs=3)
        rest = len(context) - len(needle)
        assert context.index(needle) / rest == pytest.approx(row["depth"], abs=0.06)


def test_the_needle_stands_between_sentences() -> None:
    needle = niah.NiahOptions().needle
    for row in grid(depths=[0, 0.3, 0.7]):
        before, after = str(row["context"]).split(needle)
        assert before == "" or before.endswith(". ")
        assert after.startswith(" Sentence")


def test_samples_of_a_cell_differ_and_are_the_same_every_time() -> None:
    rows = grid()
    assert len({row["context"] for row in rows}) == len(rows)
    assert grid() == rows


def test_a_cells_samples_do_not_depend_on_the_other_cells() -> None:
    alone = grid(lengths=[400], depths=[0.5], samples=1)
    assert alone[0] in grid()


def test_a_short_haystack_is_repeated() -> None:
    (row,) = grid(text="One short sentence here.", lengths=[200], depths=[0.5], samples=1)
    assert str(row["context"]).count("One short sentence here.") > 10


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1), st.integers(32, 300), st.floats(0, 1))
def test_any_text_holds_the_needle_once(text: str, length: int, depth: float) -> None:
    try:
        (row,) = grid(text=text, lengths=[length], depths=[depth], samples=1)
    except DocumentError:
        assert not text.split()
        return
    assert str(row["context"]).count(niah.NiahOptions().needle) == 1


def test_lengths_are_counted_by_the_tokenizer() -> None:
    tokenizer = tiny_tokenizer()
    tokens = niah.TokenCounter("bytes", tokenizer)
    for row in grid(tokens=tokens, lengths=[500], samples=1):
        count = len(tokenizer(str(row["context"]), add_special_tokens=False)["input_ids"])
        assert count == pytest.approx(500, abs=3)


def test_the_tokenizer_of_the_model_is_taken(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    metadata = {"pretrained": str(tmp_path / "model"), "lengths": [300], "depths": [0.5], "samples": 1}
    data = niah.load(prompts=PROMPTS, **metadata)["test"]
    assert len(data[0]["context"]) == pytest.approx(300, abs=3)  # one token per byte


def test_without_a_tokenizer_words_are_counted_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(niah.TokenCounter.of(None).ends("one two three")) == 4
    assert "estimated as 4/3 tokens per word" in caplog.text


def test_a_grid_is_built_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = {"lengths": [200], "depths": [0, 1], "samples": 2}
    first = niah.load(prompts=PROMPTS, **metadata)["test"]
    kept = list((tmp_path / "cache" / "niah").iterdir())
    assert len(kept) == 1
    monkeypatch.setattr(niah, "build_grid", None)  # would fail if it were built again
    assert niah.load(prompts=PROMPTS, **metadata)["test"].to_list() == first.to_list()


def test_a_grid_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="length 32 is too short for a needle of"):
        niah.load(prompts=PROMPTS, lengths=[200, 32], needle="word " * 60)
    assert list((tmp_path / "cache" / "niah").iterdir()) == []


def test_another_setting_is_another_grid(tmp_path: Path) -> None:
    for samples in (1, 2):
        niah.load(prompts=PROMPTS, lengths=[200], depths=[0], samples=samples)
    assert len(list((tmp_path / "cache" / "niah").iterdir())) == 2


def test_another_way_to_build_a_grid_is_another_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    niah.load(prompts=PROMPTS, lengths=[200], depths=[0], samples=1)
    monkeypatch.setattr(niah, "code_identity", lambda module: f"{module} of tomorrow")
    niah.load(prompts=PROMPTS, lengths=[200], depths=[0], samples=1)
    assert len(list((tmp_path / "cache" / "niah").iterdir())) == 2


def test_a_haystack_folder_is_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "essays").mkdir()
    (tmp_path / "essays" / "b.txt").write_text("Second text.\n")
    (tmp_path / "essays" / "a.md").write_text("First text.\n")
    (tmp_path / "essays" / "c.pdf").write_bytes(b"\xff")
    assert niah.read_haystack(tmp_path / "essays") == "First text.\n\nSecond text."


def test_a_haystack_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="is not a folder"):
        niah.read_haystack(tmp_path / "nowhere")
    with pytest.raises(DocumentError, match=r"holds no text in \.txt or \.md files"):
        niah.read_haystack(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DocumentError, match=r"a.txt: not UTF-8 .byte 0."):
        niah.read_haystack(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"lengths": []}, {"lengths": [0]}, {"depths": [1.5]}, {"samples": 0}, {"needle": " "}, {"keywords": []}],
)
def test_a_wrong_grid_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        niah.load(prompts=PROMPTS, **wrong)


def test_the_embedded_world_is_a_haystack_of_its_own() -> None:
    text = niah.read_haystack(None)
    assert len(text.split()) >= niah.WORDS_OF_WORLD
    assert "San Francisco" not in text


def test_scores_name_their_cell() -> None:
    (row,) = grid(lengths=[400], depths=[0.2], samples=1)
    scores = niah.score(row, ["Eat a sandwich in the SUNNY garden."])
    assert scores == {"score": 2 / 3, "all_keywords": 0, "score_400_20": 2 / 3}
    assert str(row["context"]).startswith("sha256:")
