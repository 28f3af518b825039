"""lm-evaluation-harness meets the core here: the model ``lift``, its arguments, answer cache, exit status."""
