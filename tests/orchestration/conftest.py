"""The alignment of `tests/alignment`, for the job that runs it on a cluster."""

from tests.alignment.conftest import problem

__all__ = ["problem"]
