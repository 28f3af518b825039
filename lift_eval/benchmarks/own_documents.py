"""One's own documents: files of plain text, Markdown, HTML and PDF, each a document with the file's name as title."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

from lift_eval.document import Document
from lift_eval.errors import DocumentError

STANDARD_INPUT = "-"


def read_document(path: Path) -> Document:
    """Read one document.

    Args:
        path: A file, or ``-`` for standard input. Files with other names than those of `READERS` are read as plain
            text.

    Returns:
        The document. Its title is the file's name without the ending; from standard input it has none.

    Raises:
        DocumentError: If the file is not there, cannot be read, or holds no text.
    """
    if str(path) == STANDARD_INPUT:
        return Document(_decode(sys.stdin.buffer.read(), "standard input"))
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"document '{path}' cannot be read ({error.strerror}); name a file") from error
    text = READERS.get(path.suffix.lower(), _decode)(raw, str(path))
    if not text.strip():
        raise DocumentError(
            f"document '{path}' must hold text, got none; pages that are images need text recognition (OCR) first"
        )
    return Document(text, title=path.stem)


def document_files(path: Path) -> list[Path]:
    """The files of a document or of a folder of documents, those that `READERS` names, sorted by name.

    Raises:
        DocumentError: If the path is standard input, or a folder that holds no document.
    """
    if str(path) == STANDARD_INPUT:
        raise DocumentError(
            "documents must be a file or a folder, because each run reads them again; only 'lift-eval ask' reads "
            "standard input"
        )
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS and file.is_file())
    if not files:
        raise DocumentError(f"folder '{path}' must hold a document ({', '.join(READERS)}), got none")
    return files


# ------------------------------------------------------------------------------------------------------------ forms


def _decode(raw: bytes, name: str) -> str:
    """A text in UTF-8, with or without a byte order mark."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{name} must be text in UTF-8, got byte 0x{raw[error.start]:02x} at position {error.start}; save it as "
            "text in UTF-8"
        ) from None


class _PageText(HTMLParser):
    """Collects the text of an HTML page as a browser shows it: separate blocks, collapsed white space."""

    HIDDEN = frozenset({"script", "style", "template", "title"})
    BLOCKS = frozenset(
        {
            *(
                "address",
                "article",
                "aside",
                "blockquote",
                "details",
                "div",
                "dl",
                "dt",
                "fieldset",
                "figure",
                "footer",
            ),
            *(
                "form",
                "h1",
                "h2",
                "h3",
                "h4",
                "h5",
                "h6",
                "header",
                "hr",
                "main",
                "nav",
                "ol",
                "p",
                "pre",
                "section",
            ),
            *("section", "table", "ul"),
        }
    )
    LINES = frozenset({"br", "caption", "dd", "figcaption", "li", "summary", "tr"})

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in self.HIDDEN:
            self._hidden.append(tag)
        self._break_at(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()
        self._break_at(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._pieces.append(re.sub(r"\s+", " ", data))

    def _break_at(self, tag: str) -> None:
        if tag in self.BLOCKS:
            self._pieces.append("\n\n")
        elif tag in self.LINES:
            self._pieces.append("\n")
        elif tag in ("td", "th"):
            self._pieces.append(" ")

    @property
    def text(self) -> str:
        lines = re.sub(" +", " ", "".join(self._pieces)).split("\n")
        return re.sub(r"\n{3,}", "\n\n", "\n".join(line.strip() for line in lines)).strip()


def _text_of_page(raw: bytes, name: str) -> str:
    page = _PageText()
    page.feed(_decode(raw, name))
    page.close()
    return page.text


def _text_of_pdf(raw: bytes, name: str) -> str:
    try:
        from pypdf import PdfReader
    except ModuleNotFoundError as error:
        raise DocumentError(
            f"document '{name}' is a PDF, which is read by pypdf; pip install 'lift-eval[pdf]'"
        ) from error
    logging.getLogger("pypdf").setLevel(
        logging.CRITICAL
    )  # it remarks on whatever it can read in spite of a fault
    try:
        return "\n\n".join(page.extract_text() for page in PdfReader(BytesIO(raw)).pages)
    except Exception as error:  # a damaged file may break the parser anywhere
        raise DocumentError(
            f"document '{name}' cannot be read as a PDF ({error or type(error).__name__}); save it again, without a "
            "password, or save its text"
        ) from error


READERS: Mapping[str, Callable[[bytes, str], str]] = {
    ".txt": _decode,
    ".md": _decode,
    ".html": _text_of_page,
    ".htm": _text_of_page,
    ".pdf": _text_of_pdf,
}
"""By a file's ending: from its bytes and its name to its text."""
