"""One's own documents: what is read from files as people have them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from lift_eval.benchmarks.own_documents import document_files, read_document
from lift_eval.errors import DocumentError

PAGE = """<!DOCTYPE html><html><head><title>A site</title><style>p {color: red}</style></head><body>
<nav><ul><li>Home</li><li>News</li></ul></nav>
<h1>The   mill</h1><p>The mill at <b>Kir</b>moor was
built in 1842 &amp; burnt.</p><script>track("1842");</script>
<table><tr><td>wheel</td><td>oak</td></tr><tr><td>roof</td><td>slate</td></tr></table></body></html>"""


def pdf(*pages: str) -> bytes:
    """A PDF with one line of text on each page."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, line in enumerate(pages):
        drawn = f"BT /F1 12 Tf 72 720 Td ({line}) Tj ET"
        font = "/Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R {font} /Contents {5 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    body, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    trailer = f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF"
    return f"{body}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode()


def test_plain_text_and_markdown_are_read_as_they_stand(tmp_path: Path) -> None:
    for name in ("The mill.txt", "mill.md", "mill.tex", "README"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf# The mill\n\nIt burnt.\n")
        document = read_document(tmp_path / name)
        assert document.text == "# The mill\n\nIt burnt.\n"
        assert document.title == Path(name).stem


def test_of_a_page_the_text_is_read_block_by_block(tmp_path: Path) -> None:
    path = tmp_path / "mill.HTML"
    path.write_text(PAGE)
    document = read_document(path)
    assert document.text == (
        "Home\n\nNews\n\nThe mill\n\nThe mill at Kirmoor was built in 1842 & burnt.\n\nwheel oak\n\nroof slate"
    )
    assert document.title == "mill"


def test_of_a_pdf_the_text_of_all_pages_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mill.pdf"
    path.write_bytes(pdf("The mill was built in 1842.", "It burnt."))
    assert read_document(path).text == "The mill was built in 1842.\n\nIt burnt."


def test_standard_input_is_a_document_without_a_title(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Der Müller.".encode())))
    document = read_document(Path("-"))
    assert (document.text, document.title) == ("Der Müller.", "")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "cannot be read (No such file or directory)"),
        ("empty.txt", b" \n", "must hold text"),
        ("scanned.pdf", pdf(""), "text recognition"),
        ("cut.pdf", pdf("It burnt.")[:40], "cannot be read as a PDF"),
        ("letter.docx", b"PK\x03\x04\xff\xfe", "byte 0xff at position 4"),
        ("latin.html", "<p>Müller</p>".encode("latin-1"), "must be text in UTF-8"),
    ],
)
def test_what_is_no_document_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DocumentError) as refused:
        read_document(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_pdf_without_pypdf_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    (tmp_path / "mill.pdf").write_bytes(pdf("It burnt."))
    with pytest.raises(DocumentError, match=r"pip install 'lift-eval\[pdf\]'"):
        read_document(tmp_path / "mill.pdf")


def test_a_folder_is_its_documents_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.pdf", "c.md", "questions.csv", "notes.docx"):
        (tmp_path / name).touch()
    assert [path.name for path in document_files(tmp_path)] == ["a.pdf", "b.txt", "c.md"]
    assert document_files(tmp_path / "b.txt") == [tmp_path / "b.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DocumentError, match="must hold a document"):
        document_files(tmp_path / "empty")
