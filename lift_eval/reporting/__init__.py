"""Reports on runs of lm-eval: experiment files, tables, figures and pages. lm-eval's files are read in `results`."""
