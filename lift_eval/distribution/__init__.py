"""The documents of a run, spread over processes and machines. What is done with a document is in `lifter`."""
