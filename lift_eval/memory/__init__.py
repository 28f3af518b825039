"""Prediction of peak memory before anything is trained. What a run really used is measured in `record`."""
