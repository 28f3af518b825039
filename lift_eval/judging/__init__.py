"""A language model judges answers, during a run or afterwards from saved ones. Scores by rules are in `benchmarks`."""

JUDGE_VARIABLE = "LIFT_EVAL_JUDGE"
"""Names the judge where ``judge=`` does not."""
