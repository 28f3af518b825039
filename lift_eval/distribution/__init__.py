"""Spreads the documents of a run over processes and machines. The work on one document is in `lifter`."""
