"""Sentences as places in a text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lift_eval.synthesis.sentence_splitter import (
    _block_sentences,
    _punkt,
    _punkt_sentences,
    _stripped,
    split_sentences,
)

# A bar stands where a sentence ends.
CASES = [
    "Prices rose by 2.4%.|Wages did not!|Did rents?",
    "J. R. R. Tolkien taught at Oxford.|He died in 1973.",
    "See Fig. 3 and eq. (2) for details.|Results follow.",
    "The firm (Acme Inc.) was sold.|Its staff stayed.",
    "He arrived at No. 10 Downing St. at noon.|The door was open.",
    "e.g. this one is fine.|That one, i.e. the second, is not.",
    "The company was founded by Lena K. Moor in 1912.|It makes ink.",
    "Version 2.0.1 was released in Feb. 2003.|It fixed the bug.",
    "Chapter One\n\n|The storm came at night.|It was dark.",
    'He wrote "The Long Road."|It sold well.',
    "The cargo was figs.|The answer was no.|Sails were set.",
    "Read vol. 2 and pp. 3 to 5.|Then rest.",
    "",
    "no end",
]


@pytest.mark.parametrize("case", CASES)
def test_sentences_end_where_a_reader_ends_them(case: str) -> None:
    text = case.replace("|", " ")
    expected = [part.strip() for part in case.split("|") if part.strip()]
    assert [text[start:end] for start, end in split_sentences(text)] == expected


def test_english_documents_are_split_by_punkt_alone(loogle_dir: Path) -> None:
    rows = [
        json.loads(line) for path in loogle_dir.glob("*.jsonl") for line in path.read_bytes().splitlines()
    ]
    for text in {row.get("context") or row["input"] for row in rows}:
        assert split_sentences(text) == _punkt_sentences(text)


# The same, with the white space of the text itself.
OTHER_SCRIPTS = [
    "这座灯塔建于1842年，高32.5米！|谁点亮了它？|没有人知道。",
    "王芳问：“船什么时候来？”|李明说：“明天。”|大家都笑了。",
    "第一章\n\n|真的吗?|我不信!|价格是3．5元。",
    "他在 OpenAI 使用 PyTorch 2.1 训练 Llama 模型。|结果很好。",
    "灯台は1842年に建てられた。|高さは３２．５メートル！？|「はい。」と彼は答えた。",
    "सिल्वर हेरोन जहाज़ 1842 में बना था।| उसका पहला माल नमक था।| क्या कोई जानता है?| नाविक जानता है॥",
    "متى بُنيت السفينة؟| بُنيت عام 1842.| كانت حمولتها الأولى ملحًا!",
    "جہاز کب بنا؟| یہ 1842 میں بنا۔",
    "መርከቡ በ1842 ተሠራ።| ጭነቱ ጨው ነበር።",
    "Նավը կառուցվել է 1842 թվականին։| Այն տեղափոխում էր աղ։",
    "Корабль построен в 1842 году.| Кто его построил?| Никто не знает!",
]


@pytest.mark.parametrize("case", OTHER_SCRIPTS)
def test_every_script_has_its_marks(case: str) -> None:
    text = case.replace("|", "")
    assert [text[start:end] for start, end in split_sentences(text)] == [
        part.strip() for part in case.split("|")
    ]


def test_a_quotation_in_another_script_does_not_split_an_english_sentence() -> None:
    text = "The old poem that hangs in the hall reads 花は桜。人は武士。 and nothing more than that. It is short."
    assert [text[start:end] for start, end in split_sentences(text)] == [text[:-13], "It is short."]


@settings(deadline=None)  # the first sentence waits for an import
@given(st.text(alphabet="aB.!?\"'() \n\t1é。।，灯と」", max_size=80))
def test_only_white_space_lies_between_sentences(text: str) -> None:
    end = 0
    for start, stop in split_sentences(text):
        assert not text[end:start].strip()
        assert text[start:stop] == text[start:stop].strip() != ""
        end = stop
    assert not text[end:].strip()


@given(st.text(alphabet="aB1 .?!,\"')\n", max_size=12))
@settings(max_examples=500)
def test_punkt_is_left_out_only_where_it_finds_the_same(block: str) -> None:
    expected = [_stripped(block, *span) for span in _punkt().span_tokenize(block)]
    found = [_stripped(block, *span) for span in _block_sentences(block)]
    assert [span for span in found if span[0] < span[1]] == [span for span in expected if span[0] < span[1]]


def test_one_sentence_a_paragraph_does_not_import_nltk() -> None:
    script = """
import sys
from lift_eval.synthesis.sentence_splitter import split_sentences

assert split_sentences("The hall burned.\\n\\nWho saw it?\\n\\nnobody") == [(0, 16), (18, 29), (31, 37)]
assert "nltk" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_sentence_does_not_depend_on_the_text_around_it() -> None:
    text = "The mill stood by the river. Dr. Roth bought it in 1840."
    alone = split_sentences(text)
    after_much = split_sentences("Many people went there. " * 500 + text)
    assert [end - start for start, end in after_much[-2:]] == [end - start for start, end in alone]
