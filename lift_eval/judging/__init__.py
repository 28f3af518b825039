"""A language model judges answers, during a run or afterwards from saved ones."""
