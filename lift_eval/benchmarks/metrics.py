"""The scores of answers: each with its source, and with what the published code does differently.

Every function takes the prediction first and the reference second, returns a number between 0 and 1 unless it says
otherwise, and never turns an exception into a score. What has no defined score (an empty prediction, an answer that
cannot be read) gets one by a rule that its docstring names.
"""

from __future__ import annotations

import ast
import json
import math
import re
import string
from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from nltk.translate.bleu_score import brevity_penalty, modified_precision
from nltk.translate.meteor_score import single_meteor_score
from rouge.rouge_score import rouge_n

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


# --------------------------------------------------------------------------------------------- exact match and F1


def normalize(text: str) -> str:
    """Lower the case, drop ASCII punctuation and English articles, and squeeze white space (SQuAD).

    Source: the evaluation script of SQuAD (arXiv 1606.05250), used unchanged by LongBench.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, reference: str) -> float:
    """Whether the normalized texts are the same (SQuAD)."""
    return float(normalize(prediction) == normalize(reference))


def token_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the bags of normalized words (SQuAD).

    Where a side has no words left after normalization, the score is 1 if both have none and 0 otherwise (the rule
    of SQuAD 2.0; the first script gives 0 for both).
    """
    predicted, expected = normalize(prediction).split(), normalize(reference).split()
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected))


# ------------------------------------------------------------------------------------------------------------ BLEU


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


# ----------------------------------------------------------------------------------------------------------- ROUGE


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


def _has_words(text: str) -> bool:
    return bool(text.replace(".", " ").split())


def rouge_n_recall(prediction: str, reference: str, n: int) -> float:
    """ROUGE-N recall over sets of word n-grams (Lin 2004, by the package ``rouge``), as LooGLE publishes it.

    0 by rule where a side has no words (the package raises; LooGLE's code scores the word "None" instead).
    """
    if not _has_words(prediction) or not _has_words(reference):
        return 0.0
    return float(rouge_n(_sentences(prediction), _sentences(reference), n=n)["r"])


def rouge_l(prediction: str, reference: str) -> tuple[float, float, float]:
    """Summary-level ROUGE-L as the package ``rouge`` 1.0.1 defines it, over sets of words (Lin 2004).

    The union of the longest common subsequences of every reference sentence with every predicted sentence, counted
    as distinct words, over the distinct words of the prediction (precision) and of the reference (recall).

    Returns:
        Precision, recall and F1. All 0 by rule where a side has no words. The package's F1 has 1e-8 in its
        denominator, so that a perfect score is 0.999999995.
    """
    if not _has_words(prediction) or not _has_words(reference):
        return 0.0, 0.0, 0.0
    predicted = [sentence.split(" ") for sentence in _sentences(prediction)]
    expected = [sentence.split(" ") for sentence in _sentences(reference)]
    union: set[str] = set()
    for sentence in expected:
        for candidate in predicted:
            union |= _longest_common_subsequence(sentence, candidate)
    precision = len(union) / len({word for sentence in predicted for word in sentence})
    recall = len(union) / len({word for sentence in expected for word in sentence})
    return precision, recall, 2 * precision * recall / (precision + recall + 1e-8)


# ---------------------------------------------------------------------------------------------- METEOR, BERTScore


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


# ------------------------------------------------------------------------------------------------- LooGLE's clozes


def read_mapping(text: str) -> dict[str, str] | None:
    """Find the first JSON object or Python dictionary literal of text values in an answer.

    LooGLE's code runs ``eval`` on the whole output; here the text before and after the braces is ignored, and
    entries whose value is not text are left out. Values hold no nested braces.

    Returns:
        The mapping, or None where there is none that can be read.
    """
    for match in re.finditer(r"\{[^{}]*\}", text):
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(match.group())
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
            if isinstance(found, dict):
                return {str(key): value for key, value in found.items() if isinstance(value, str)}
    return None


def cloze_matches(prediction: str, reference: Mapping[str, str]) -> tuple[int, int]:
    """Count the masks that are filled exactly, and those that share a white-space word (LooGLE).

    An answer without a readable mapping fills no mask.

    Returns:
        Exact matches and partial matches, each at most ``len(reference)``.
    """
    answer = read_mapping(prediction) or {}
    exact = sum(answer.get(mask) == value for mask, value in reference.items())
    partial = sum(bool(set(answer.get(mask, "").split()) & set(v.split())) for mask, v in reference.items())
    return exact, partial


# ------------------------------------------------------------------------------------------ LooGLE's timeline orders


def read_order(text: str, labels: Iterable[int]) -> list[int] | None:
    """Read the order of numbered events from an answer.

    The first run of numbers with nothing but separators between them that names every event once; where there is
    none, the numbers in the order of their first appearance. Words ("three, then one") are not read. LooGLE's code
    reads Roman numerals only, while its data holds digits.

    Args:
        text: The answer.
        labels: The events' numbers.

    Returns:
        The labels in the order of the answer, or None where it does not name every event.
    """
    wanted = sorted(labels)
    for run in re.findall(r"\d+(?:(?:\s|[,;>.)(\-–—→])+\d+)*", text):
        numbers = _numbers(run)
        if sorted(numbers) == wanted:
            return numbers
    seen = list(dict.fromkeys(_numbers(text)))
    named = [number for number in seen if number in set(wanted)]
    return named if sorted(named) == wanted else None


def _numbers(text: str) -> list[int]:
    """All numbers of a text; one of more digits than Python converts at once, which names nothing, as -1."""
    return [int(digits) if len(digits) < 100 else -1 for digits in re.findall(r"\d+", text)]


def reference_order(answer: str) -> list[int] | None:
    """The order that a timeline row holds, e.g. ``"3,5,1,4,2"``; None if it is not an order of 1 to n, n > 1."""
    numbers = _numbers(answer)
    is_order = len(numbers) > 1 and sorted(numbers) == list(range(1, len(numbers) + 1))
    return numbers if is_order else None


def timeline_deviations(prediction: Sequence[int] | None, reference: Sequence[int]) -> dict[str, float]:
    """LooGLE's four distances between two orders of the same events; 0 is best, none is bounded by 1.

    With d the displacement of each event: LSD is the mean of d squared, LMD the mean of its absolute value, SD the
    events minus the cycles of the permutation (the fewest swaps that sort it), SDD the summed distance of the swaps
    that a greedy sort makes. A greedy swap always finds two events that both move towards their places, so SDD is
    half the sum of the absolute displacements. An answer that is no order gets the largest value each can take.

    Source: LooGLE, appendix. Its code replaces every valid value with the largest possible one and fails on every
    other; the names here say ``standard`` so that the figures are not confused.

    Args:
        prediction: The predicted order, or None where the answer holds none.
        reference: The right order, a permutation of the same numbers.
    """
    n = len(reference)
    if prediction is None:
        reversal = n * n // 2
        worst = ((n * n - 1) / 3, reversal / n, float(n - 1), reversal / 2)
        return dict(zip(_DEVIATIONS, worst, strict=True))
    place = {label: index for index, label in enumerate(reference)}
    target = [place[label] for label in prediction]
    moves = [abs(index - goal) for index, goal in enumerate(target)]
    values = (sum(m * m for m in moves) / n, sum(moves) / n, float(n - _cycles(target)), sum(moves) / 2)
    return dict(zip(_DEVIATIONS, values, strict=True))


_DEVIATIONS = ("lsd_standard", "lmd_standard", "sd_standard", "sdd_standard")


def _cycles(permutation: Sequence[int]) -> int:
    seen: set[int] = set()
    count = 0
    for start in range(len(permutation)):
        count += start not in seen
        at = start
        while at not in seen:
            seen.add(at)
            at = permutation[at]
    return count


# ------------------------------------------------------------------------------------------------- multiple choice


def read_options(question: str) -> dict[str, str]:
    """The labelled options of a question, one per line: ``1. seven`` or ``B) six``.

    Returns:
        Label to text, in order; empty where the lines are not labelled 1, 2, ... or A, B, ... without a gap.
    """
    found = re.findall(r"^[ \t]*(\d{1,2}|[A-Z])[.)][ \t]*(\S.*?)[ \t]*$", question, re.MULTILINE)
    labels = [label for label, _ in found]
    numbers = [str(i) for i in range(1, len(labels) + 1)]
    letters = list(string.ascii_uppercase[: len(labels)])
    return dict(found) if len(labels) > 1 and labels in (numbers, letters) else {}


def read_choice(answer: str, options: Mapping[str, str]) -> str | None:
    """The label of the option that an answer picks.

    In this order: the label at its start, the label after "answer is" or "answer:", the one option whose text stands
    in it, the one label that stands alone in it.

    Returns:
        The label, or None where none or several fit.
    """
    labels = "|".join(map(re.escape, options))
    for pattern in (rf"^\W*({labels})(?![\w.]\w|\w|'| [a-z])", rf"(?i:answer)(?: is)?:? \(?({labels})\b"):
        if match := re.search(pattern, answer):
            return match.group(1)
    words = f" {normalize(answer)} "
    by_text = [label for label, text in options.items() if f" {normalize(text)} " in words]
    if len(by_text) == 1:
        return by_text[0]
    alone = set(re.findall(rf"(?<![\w.,])(?:{labels})(?!\w|[.,]\d)", answer))
    return alone.pop() if len(alone) == 1 else None


def choice_accuracy(prediction: str, reference: str, options: Mapping[str, str]) -> float | None:
    """Whether the prediction picks the option that the reference picks; None where the reference picks none.

    Source: the project's own; LooGLE leaves its multiple-choice questions to the judge.
    """
    right = read_choice(reference, options) if options else None
    return None if right is None else float(read_choice(prediction, options) == right)


# ------------------------------------------------------------------------------------------------------- LongBench


def qa_f1(prediction: str, answers: Iterable[str]) -> float:
    """LongBench's F1: the best token F1 over the answers; an answer without words scores 0, as published."""
    return max((token_f1(prediction, answer) for answer in answers if normalize(answer)), default=0.0)


def rouge_l_best(prediction: str, answers: Iterable[str]) -> float:
    """LongBench's ROUGE-L: the best F1 over the answers; an empty prediction scores 0 by rule."""
    return max((rouge_l(prediction, answer)[2] for answer in answers), default=0.0)


def retrieval_score(prediction: str, answers: Iterable[str]) -> float:
    """LongBench's passage retrieval: the share of the numbers in the output that are the right paragraph's.

    Args:
        prediction: The answer.
        answers: Right answers of the form ``"Paragraph 7"``.
    """
    numbers = re.findall(r"\d+", prediction)
    right = [re.findall(r"Paragraph (\d+)", answer)[0] for answer in answers]
    return max((numbers.count(number) / len(numbers) for number in right), default=0.0) if numbers else 0.0


def classification_score(prediction: str, answers: Iterable[str], classes: Iterable[str]) -> float:
    """LongBench's classification: 1 over the number of class names in the output, if the right one is among them.

    Names that are part of the right name do not count. The published code removes them from the list that it walks
    through, and so keeps some of them.
    """
    named = [name for name in classes if name in prediction]

    def score(answer: str) -> float:
        kept = [name for name in named if name == answer or name not in answer]
        return 1 / len(kept) if answer in kept else 0.0

    return max(map(score, answers), default=0.0)


def keyword_share(prediction: str, keywords: Sequence[str]) -> float:
    """Share of the needle's key words that stand in the answer, upper and lower case alike."""
    folded = prediction.casefold()
    return sum(keyword.casefold() in folded for keyword in keywords) / len(keywords)


# ----------------------------------------------------------------------------------------------------- aggregation


def micro_average(counts: Iterable[tuple[float, float]]) -> float:
    """Sum of the hits over the sum of the totals, for values that are pairs (hits, total)."""
    pairs = list(counts)
    return sum(hits for hits, _ in pairs) / sum(of for _, of in pairs)


def count_distinct(values: Iterable[Hashable]) -> int:
    """The number of different values: a run's documents, from the documents of its questions."""
    return len(set(values))


def total(values: Iterable[float]) -> float:
    """The sum: a run's questions of one type, from 0 or 1 for each question."""
    return sum(values)
