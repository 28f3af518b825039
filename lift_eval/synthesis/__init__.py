"""Question-answer pairs made from a document. Training on them is in `training`."""
