"""Use cases of the executor."""

from services.executor.application.executor import Executor

__all__ = ["Executor"]
