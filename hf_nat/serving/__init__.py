"""A translation server: requests over HTTP, their sentences batched together (extra `serve`)."""

from __future__ import annotations

from .arguments import ServingArguments
from .batcher import Batcher, BatcherClosed, QueueFull


__all__ = ["Batcher", "BatcherClosed", "QueueFull", "ServingArguments"]
