"""lm-eval's result files, read through one schema. What a run puts into them is declared in `record`."""
