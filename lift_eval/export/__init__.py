"""Trained adapters for use without this package: a peft folder or a merged checkpoint, with a card."""
