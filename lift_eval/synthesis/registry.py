"""All strategies by name, and the keys of them all. A recipe chooses one by ``auxiliary.strategy``."""

from __future__ import annotations

from lift_eval.synthesis.base import Strategy
from lift_eval.synthesis.conversations import Conversations, ConversationsSettings
from lift_eval.synthesis.paragraphs import Paragraphs, ParagraphsSettings
from lift_eval.synthesis.passages import Passages, PassagesSettings
from lift_eval.synthesis.sentences import Sentences, SentencesSettings
from lift_eval.synthesis.summaries import Summaries


class NoPairs(Strategy):
    """No pairs: the document is trained on its segments alone."""

    name = "none"


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (NoPairs(), Passages(), Sentences(), Paragraphs(), Conversations(), Summaries())
}


class StrategySettings(SentencesSettings, PassagesSettings, ParagraphsSettings, ConversationsSettings):
    """The keys of all strategies, which stand side by side in the recipe's group ``auxiliary``."""
