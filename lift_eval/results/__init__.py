"""lm-eval's result files, read through one schema. Nothing here imports torch or lm-eval."""
