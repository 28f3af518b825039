"""The embedded default: an invented world of text, and a small language model trained on it. See pretraining/."""
