"""A language model judges answers, during a run or afterwards from saved ones. Scores by rules are in `benchmarks`."""

JUDGE_VARIABLE = "LIFT_EVAL_JUDGE"
"""Judge model, unless ``judge=`` names one."""
