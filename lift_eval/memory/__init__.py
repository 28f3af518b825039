"""Prediction of memory and operations before anything is trained. What a run really used is measured in `record`."""
