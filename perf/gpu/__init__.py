"""The stages of `perf/gpu.py`: what is measured on a GPU, and how stages are run within their bounds."""
