"""The benchmarks: their data, prompts and scores, as the task files in tasks/ name them. Judges are in `judging`."""
