"""How much of a reference text an answer repeats: BLEU, ROUGE, METEOR, BERTScore."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from nltk.translate.bleu_score import brevity_penalty, modified_precision
from nltk.translate.meteor_score import single_meteor_score
from nltk.util import ngrams


def bleu(prediction: str, reference: str, weights: Sequence[float]) -> float:
    """BLEU of one sentence pair over white-space words, without smoothing (Papineni et al. 2002; NLTK's counts).

    Args:
        prediction: The answer.
        reference: The right answer.
        weights: Weight of the n-gram precisions for n = 1, 2, ...; LooGLE's BLEU-1 is ``(1,)``.

    Returns:
        The score; exactly 0 if a precision with a weight is 0, where NLTK returns a number below 1e-70.
    """
    predicted, expected = prediction.split(), reference.split()
    if not predicted or not expected:
        return 0.0
    log_precision = 0.0
    for n, weight in enumerate(weights, start=1):
        precision = modified_precision([expected], predicted, n)
        if weight and not precision:
            return 0.0
        if weight:
            log_precision += weight * math.log(precision)
    return float(brevity_penalty(len(expected), len(predicted)) * math.exp(log_precision))


def bleu_1(prediction: str, reference: str) -> float:
    """BLEU-1, as LooGLE publishes it."""
    return bleu(prediction, reference, (1,))


def bleu_4(prediction: str, reference: str) -> float:
    """BLEU-4 by its definition: the geometric mean of the 1- to 4-gram precisions."""
    return bleu(prediction, reference, (0.25, 0.25, 0.25, 0.25))


def bleu_4gram_published(prediction: str, reference: str) -> float:
    """What LooGLE's code calls BLEU-4: weights (0, 0, 0, 1), so the 4-gram precision alone."""
    return bleu(prediction, reference, (0, 0, 0, 1))


def _sentences(text: str) -> list[str]:
    """Sentences as the package ``rouge`` cuts them: at full stops, white space squeezed, empty ones kept."""
    return [" ".join(part.split()) for part in text.split(".") if part]


def _longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> set[str]:
    """The words of the longest common subsequence; of several, the one that ``rouge`` finds.

    The package recurses once per word and keeps a dictionary of len(left) x len(right) entries: answers of a
    thousand words end in a RecursionError. Here the table is an array and the way back is a loop.
    """
    width = len(right) + 1
    table = [array("I", bytes(4 * width))]
    for word in left:
        above, row = table[-1], array("I", bytes(4 * width))
        for j, other in enumerate(right, start=1):
            row[j] = above[j - 1] + 1 if word == other else max(above[j], row[j - 1])
        table.append(row)
    words: set[str] = set()
    i, j = len(left), len(right)
    while i and j:
        if left[i - 1] == right[j - 1]:
            words.add(left[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words


def rouge_n_recall(prediction: str, reference: str, n: int) -> float:
    """ROUGE-N recall over sets of word n-grams (Lin 2004, as the package ``rouge`` counts), as LooGLE publishes it.

    Texts without a word are scored as `rouge_l` says.
    """
    predicted, expected = (
        set(ngrams([word for sentence in _sentences(text) for word in sentence.split(" ")], n))
        for text in (prediction, reference)
    )
    return len(predicted & expected) / len(expected) if expected else 0.0


def rouge_l(prediction: str, reference: str) -> tuple[float, float, float]:
    """Summary-level ROUGE-L as the package ``rouge`` 1.0.1 defines it, over sets of words (Lin 2004).

    The union of the longest common subsequences of every reference sentence with every predicted sentence, counted
    as distinct words, over the distinct words of the prediction (precision) and of the reference (recall).

    Texts without a word: where a side is empty or holds full stops alone, the scores are 0 by rule. (The package
    raises an exception. LongBench's code makes it a 0, LooGLE's scores the word "None" instead.) White space alone is
    one empty word to the package, so that two such texts are equal.

    Returns:
        Precision, recall and F1. The package's F1 has 1e-8 in its denominator, so that a perfect score is 0.999999995.
    """
    predicted = [sentence.split(" ") for sentence in _sentences(prediction)]
    expected = [sentence.split(" ") for sentence in _sentences(reference)]
    if not predicted or not expected:
        return 0.0, 0.0, 0.0
    union: set[str] = set()
    for sentence in expected:
        for candidate in predicted:
            union |= _longest_common_subsequence(sentence, candidate)
    precision = len(union) / len({word for sentence in predicted for word in sentence})
    recall = len(union) / len({word for sentence in expected for word in sentence})
    return precision, recall, 2 * precision * recall / (precision + recall + 1e-8)


class _NoSynonyms:
    """Stands where NLTK expects WordNet, whose data it would have to download."""

    def synsets(self, word: str) -> list[object]:
        return []


def meteor_exact_stem(prediction: str, reference: str) -> float:
    """METEOR with its exact and Porter-stem stages, without the synonym stage (Lavie and Agarwal 2007, by NLTK).

    Computed on the word sequences. LooGLE's code hands NLTK *sets* of words, whose order changes from run to run, so
    that its published figure cannot be repeated; it also uses WordNet. By definition a perfect answer of n words
    scores 1 - 0.5 / n**3.
    """
    predicted, expected = prediction.split(), reference.split()
    if not predicted or not expected:
        return 0.0
    return float(single_meteor_score(expected, predicted, wordnet=_NoSynonyms()))


def bert_scores(
    predictions: Sequence[str], references: Sequence[str], model_type: str | None = None
) -> list[tuple[float, float, float]]:
    """BERTScore of each pair (arXiv 1904.09675), by the package ``bert-score`` (``pip install bert-score``).

    LooGLE's code swaps candidate and reference and reports the recall, which is the *precision* here.

    Args:
        predictions: The answers.
        references: The right answers, in the same order.
        model_type: Name of the encoder; the package's default for English if None.

    Returns:
        Precision, recall and F1 of each pair; not bounded by 0.

    Raises:
        ModuleNotFoundError: Where the package is not installed.
    """
    try:
        from bert_score import score
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "BERTScore needs the package bert-score, which is not installed; `pip install bert-score`"
        ) from error
    columns = score(list(predictions), list(references), model_type=model_type, lang="en")
    return [(float(p), float(r), float(f)) for p, r, f in zip(*columns, strict=True)]
