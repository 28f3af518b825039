"""Scores over Chinese words. Expected values are worked out by hand beside each case."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lift_eval.benchmarks.metrics import chinese
from lift_eval.benchmarks.metrics.chinese import normalized_words, qa_f1_zh, rouge_l_zh
from lift_eval.errors import LiftEvalError
from tests.benchmarks.metrics.texts import TEXTS

CHINESE = st.text(alphabet="我来到北京清华大学的。，！ aB1", max_size=20)


def test_words_lose_case_punctuation_and_white_space() -> None:
    assert normalized_words("他出生在 上海，1990年。") == ["他", "出生", "在", "上海", "1990", "年"]
    assert normalized_words("GPT 《红楼梦！") == ["gpt", "《", "红楼梦"]  # the published list lacks 《
    assert normalized_words("。，！ ...") == []


def test_f1_compares_bags_of_words() -> None:
    # 他 出生 在 上海 against 出生 在 北京: 2 shared, 2 * 2 / (4 + 3)
    assert qa_f1_zh("他出生在上海", "出生在北京") == pytest.approx(4 / 7)
    assert qa_f1_zh("出生在上海！", "出生在上海") == 1
    assert qa_f1_zh("。", "！") == 0  # neither has a word left


def test_rouge_l_follows_the_order_of_words() -> None:
    # 我 来到 北京 清华大学 against 我 来到 清华大学: 3 in order; precision 3/4, recall 1
    assert rouge_l_zh("我来到北京清华大学", "我来到清华大学") == pytest.approx(6 / 7)
    assert rouge_l_zh("", "我来到清华大学") == 0


@settings(deadline=None)  # jieba reads its dictionary once
@given(CHINESE | TEXTS, CHINESE | TEXTS)
def test_scores_lie_between_0_and_1_and_f1_is_symmetric(one: str, other: str) -> None:
    assert 0 <= rouge_l_zh(one, other) <= 1
    assert 0 <= qa_f1_zh(one, other) <= 1
    assert qa_f1_zh(one, other) == qa_f1_zh(other, one)


@settings(deadline=None)  # jieba reads its dictionary once
@given(CHINESE)
def test_an_answer_equal_to_the_reference_scores_highest(text: str) -> None:
    assert qa_f1_zh(text, text) == bool(normalized_words(text))
    if chinese.words(text) != [] and text.replace(".", " ").split():
        assert rouge_l_zh(text, text) == pytest.approx(1)


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    chinese.segmenter.cache_clear()
    with pytest.raises(LiftEvalError, match=r"needs the package jieba: pip install 'lift-eval\[longbench\]'"):
        chinese.segmenter()
