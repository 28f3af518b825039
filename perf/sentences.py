"""How long splitting a document into sentences takes, and what sense the sentences make.

Compares the splitter of lift_eval with whichever of its peers are installed:

    pip install blingfire pysbd sentencex syntok uniseg

Time: of 100,000 words of generated articles, after one warm call on a short text, and of importing the library.
Sense: hand-marked cases, in English and in other scripts, whose language is told to those who ask for it; sentences of
the articles found exactly; and, where LooGLE's files are, the longest sentences of its first real documents, since a
splitter that misses ends makes passages without bound.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lift_eval.synthesis.sentence_splitter import split_sentences  # noqa: E402
from lift_eval.tiny.world import documents  # noqa: E402 - the checkout, installed or not

WORDS = 100_000
Splitter = Callable[[str, str], list[str]]
"""Splits a text in a language, named by its code, into sentences."""

# A bar stands where a sentence ends.
CASES = """\
Dr. Ana Roth met Mr. Lee at 5 p.m. on Friday.|They talked about Mars.
He moved to the U.S. in 1998.|There he wrote "The Long Road."|It sold well.
The river is 3.5 km long.|It freezes in winter.
The extension entered service in 1979.|Hostel rooms were added later.
All the work was carried out.|Picardo started again in October.
See Fig. 3 and eq. (2) for details.|Results follow.
She asked: "Why now?" and left.|Nobody answered.
J. R. R. Tolkien taught at Oxford.|He died in 1973.
The firm (Acme Inc.) was sold.|Its staff stayed.
Prices rose by 2.4%.|Wages did not!|Did rents?
He arrived at No. 10 Downing St. at noon.|The door was open.
e.g. this one is fine.|That one, i.e. the second, is not.
Chapter One.|The storm came at night.
"I never saw it," he said.|"It was dark."
Version 2.0.1 was released in Feb. 2003.|It fixed the bug.
Wait... what?|Nothing.
The meeting is at 10 a.m. Monday.|Bring the files.
Prof. Smith et al. (2019) disagree.|Their data are public.
It weighs approx. 40 kg.|It floats.
She won in 1-0.|He lost.
He lived on St. Helena until 1821.|Then he died.
The Ph.D. student left.|His adviser stayed.
He owns boats, cars, etc. in Nice.|So does she.
The U.N. Security Council met on Jan. 5.|It voted.
The tower was built by M. Curie in 1845.|It stands in Arlen.
The company was founded by Lena K. Moor.|It makes ink.
The address is www.example.org.|Write to us.
He scored 45 in 2001.|35 followed in 2002.
Genus E. coli is common.|B. subtilis is not.
He wrote to Gen. Lee.|No reply came.
The cargo was figs.|The answer was no.|Sails were set.""".split("\n")  # noqa: SIM905

OTHER_SCRIPTS = [
    ("zh", "这座灯塔建于1842年。|它高32.5米！|谁点亮了它？|没有人知道。"),
    ("zh", "王芳问：“船什么时候来？”|李明说：“明天。”|大家都笑了。"),
    ("zh", "他买了苹果、梨；还有三本书（两新一旧）。|价格是3．5元。"),
    ("zh", "第一章\n\n|天黑了。|船来了。"),
    ("ja", "灯台は1842年に建てられた。|高さは３２．５メートルである！|誰が灯をともしたのか？|分からない。"),
    ("ja", "彼は「はい。行きます。」と答えた。|雨が降っていた。"),
    ("hi", "सिल्वर हेरोन जहाज़ 1842 में बना था।| उसका पहला माल नमक था।| क्या कोई जानता है?| बूढ़ा नाविक जानता है।"),
    ("ur", "جہاز کب بنا؟| یہ 1842 میں بنا۔| اس کا پہلا سامان نمک تھا۔"),
    ("ar", "متى بُنيت السفينة؟| بُنيت عام 1842.| كانت حمولتها الأولى ملحًا!"),
    ("am", "መርከቡ በ1842 ተሠራ።| ጭነቱ ጨው ነበር።"),
    ("hy", "Նավը կառուցվել է 1842 թվականին։| Այն տեղափոխում էր աղ։"),
    ("ru", "Корабль построен в 1842 году.| Кто его построил?| Никто не знает!"),
]


def ours(text: str, language: str) -> list[str]:
    """The splitter of lift_eval."""
    return [text[start:end] for start, end in split_sentences(text)]


def blingfire(text: str, language: str) -> list[str]:
    """Microsoft's finite-state machine."""
    module = importlib.import_module("blingfire")
    return [text[start:end] for start, end in module.text_to_sentences_and_offsets(text)[1]]


def pysbd(text: str, language: str) -> list[str]:
    """Rules after the Pragmatic Segmenter."""
    segmenter = importlib.import_module("pysbd").Segmenter(language=language, clean=False, char_span=True)
    return [span.sent for span in segmenter.segment(text)]


def sentencex(text: str, language: str) -> list[str]:
    """Rules of Wikimedia, in Rust."""
    found = importlib.import_module("sentencex").get_sentence_boundaries(language, text)
    return [text[each["start_index"] : each["end_index"]] for each in found]


def syntok(text: str, language: str) -> list[str]:
    """Rules over tokens."""
    paragraphs = importlib.import_module("syntok.segmenter").analyze(text)
    sentences = [list(sentence) for paragraph in paragraphs for sentence in paragraph]
    return [text[each[0].offset : each[-1].offset + len(each[-1].value)] for each in sentences]


def uniseg(text: str, language: str) -> list[str]:
    """The rules of Unicode (UAX 29) for all scripts."""
    return list(importlib.import_module("uniseg.sentencebreak").sentences(text))


# The module whose import counts, the splitter.
SPLITTERS: dict[str, tuple[str, Splitter]] = {
    "lift_eval (nltk)": ("nltk.tokenize.punkt", ours),
    "blingfire": ("blingfire", blingfire),
    "pysbd": ("pysbd", pysbd),
    "sentencex": ("sentencex", sentencex),
    "syntok": ("syntok.segmenter", syntok),
    "uniseg": ("uniseg.sentencebreak", uniseg),
}


def stripped(sentences: list[str]) -> list[str]:
    """Without white space around them, and without empty ones."""
    return [sentence.strip() for sentence in sentences if sentence.strip()]


def right(split: Splitter, language: str, case: str, between: str) -> bool:
    """Whether a splitter finds the sentences that are marked in a case."""
    return stripped(split(case.replace("|", between), language)) == stripped(case.split("|"))


def import_seconds(module: str) -> float:
    """Processor time of an import in a fresh interpreter."""
    code = f"import time; began = time.process_time(); import {module}; print(time.process_time() - began)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


def real_documents() -> list[str]:
    """The first three of LooGLE, where its files are."""
    folder = Path(os.environ.get("LIFT_EVAL_LOOGLE_DIR", ROOT.parent / "shared" / "data" / "loogle"))
    file = folder / "longdep_qa.jsonl"
    if not file.is_file():
        return []
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return list(dict.fromkeys(row.get("context") or row["input"] for row in rows))[:3]


def main() -> None:
    """Print the figures."""
    articles = [document.article for document in documents("dev", WORDS // 2000 + 1, words=2000)]
    known = [sentence for article in articles for sentence in article.sentences]
    text = "\n\n".join(" ".join(article.sentences) for article in articles)
    text = text[: text.rfind(" ", 0, len(" ".join(text.split(" ")[:WORDS])))]
    known = [sentence for sentence in known if sentence in text]
    real = real_documents()
    print(f"document: {len(text.split())} words, {len(known)} sentences; {len(real)} real documents")
    for name, (module, split) in SPLITTERS.items():
        if importlib.util.find_spec(module.split(".")[0]) is None:
            print(f"{name:18} not installed")
            continue
        english = sum(right(split, "en", case, " ") for case in CASES)
        others = sum(right(split, language, case, "") for language, case in OTHER_SCRIPTS)
        began = time.process_time()
        found = set(stripped(split(text, "en")))
        seconds = time.process_time() - began
        exact = sum(sentence in found for sentence in known) / len(known)
        longest = max((len(each.split()) for document in real for each in split(document, "en")), default=0)
        print(
            f"{name:18} {seconds:7.2f} s, import {import_seconds(module):.2f} s; {english} of {len(CASES)} cases, "
            f"{others} of {len(OTHER_SCRIPTS)} of other scripts, "
            f"{exact:.1%} of the sentences, longest real sentence {longest or '-'} words"
        )


if __name__ == "__main__":
    main()
