"""LongBench's scores of Chinese replies, over the words that jieba finds (``pip install 'lift-eval[longbench]'``)."""

from __future__ import annotations

import logging
import string
from collections import Counter
from functools import cache
from typing import Any

from lift_eval.benchmarks.metrics.overlap import rouge_l
from lift_eval.errors import LiftEvalError
from lift_eval.files import cache_folder

_CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】"
    "〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation + _CHINESE_PUNCTUATION)


@cache
def segmenter() -> Any:  # noqa: ANN401 - a package without types
    """The jieba tokenizer; its dictionary is read when the first text is cut.

    Raises:
        LiftEvalError: If jieba is not installed.
    """
    try:
        import jieba
    except ModuleNotFoundError as error:
        raise LiftEvalError(
            "Chinese answers are scored by words, which needs the package jieba: pip install 'lift-eval[longbench]'"
        ) from error
    jieba.setLogLevel(logging.WARNING)
    found = jieba.Tokenizer()
    folder = cache_folder("jieba")
    folder.mkdir(parents=True, exist_ok=True)
    found.tmp_dir = str(folder)  # else it trusts a file in the machine's shared temporary folder
    return found


def words(text: str) -> list[str]:
    """The words of a text, white space and punctuation between them included."""
    return list(segmenter().lcut(text))


def normalized_words(text: str) -> list[str]:
    """The words in lower case, without Chinese and ASCII punctuation and without white space."""
    found = ("".join(word.lower().translate(_NO_PUNCTUATION).split()) for word in words(text))
    return [word for word in found if word]


def qa_f1_zh(prediction: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the bags of normalized words; 0 where a side has none."""
    predicted, expected = normalized_words(prediction), normalized_words(answer)
    if not predicted or not expected:
        return 0.0
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected))


def rouge_l_zh(prediction: str, answer: str) -> float:
    """F1 of ROUGE-L over words; 0 where a side has none."""
    return rouge_l(" ".join(words(prediction)), " ".join(words(answer)))[2]
