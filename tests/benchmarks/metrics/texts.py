"""Generated texts for the properties of scores."""

from __future__ import annotations

from hypothesis import strategies as st

TEXTS = st.text(max_size=60)
SENTENCES = st.lists(
    st.sampled_from(["Ada", "ship", "ship.", "the", "sank", ".", "in", "1901", "\n"]), max_size=14
)
WORDS = SENTENCES.map(" ".join)
