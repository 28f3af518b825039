"""lm-evaluation-harness meets the core here: the model ``lift``, its arguments, exit status."""
