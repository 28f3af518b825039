"""Reports on runs of lm-eval: experiment files, tables, figures and pages; needs neither torch nor lm_eval."""
