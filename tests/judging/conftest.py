"""Fixtures of the judge's tests."""

from tests.benchmarks.conftest import checkpoint, data_dir, server

__all__ = ["checkpoint", "data_dir", "server"]
