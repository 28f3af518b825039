"""The embedded default: an invented world of text, and a small language model that was trained on it."""
