"""All contents by name, and the keys of them all. A recipe chooses one by ``prompt.document``."""

from __future__ import annotations

from lift_eval.document import Document
from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.contents.compressed import Compressed, CompressedSettings
from lift_eval.prompts.contents.end import End
from lift_eval.prompts.contents.full import Full, FullSettings
from lift_eval.prompts.contents.none import ClosedBook
from lift_eval.prompts.contents.retrieved import Retrieved, RetrievedSettings
from lift_eval.prompts.contents.shuffled import Shuffled
from lift_eval.prompts.contents.truncated import Truncated
from lift_eval.prompts.contents.wrong import Wrong
from lift_eval.prompts.prompt import PromptEncoder

CONTENTS: dict[str, type[Content]] = {
    content.name: content
    for content in (Truncated, ClosedBook, Full, End, Retrieved, Compressed, Wrong, Shuffled)
}


class ContentsSettings(FullSettings, RetrievedSettings, CompressedSettings):
    """The keys of all contents, which stand side by side in the recipe's group ``prompt``."""


def content_for(document: Document | None, encoder: PromptEncoder, other: Document | None = None) -> Content:
    """What of a document the recipe puts into prompts; prompts without a document are only truncated.

    Args:
        document: The document. None means that the questions have none.
        encoder: Of the recipe's prompts.
        other: Another document of the run. None means that there is no other.
    """
    content = Truncated if document is None else CONTENTS[encoder.settings.document]
    return content(document, encoder, other)
