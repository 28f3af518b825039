"""The scores of answers, by family: each with its source, and with what the published code does differently.

Every score takes the prediction first and the reference second, returns a number between 0 and 1 unless it says
otherwise, and never turns an exception into a score. What has no defined score (an empty prediction, an answer that
cannot be read) gets one by a rule that its docstring names.
"""
