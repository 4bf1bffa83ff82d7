"""What a server takes on: its batches, its queue and the size of a request."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.bounds import require_number
from ..base.config import option


# No client waits longer.
_LONGEST_WAIT_MS = 60_000


@dataclass(frozen=True)
class ServingArguments:
    """The limits of a server.

    Raises:
        ValueError: if a number is out of its range, or a request may be larger than the queue.
    """

    batch_wait_ms: float = option(5.0, "longest that a sentence waits for others to join its batch, milliseconds")
    max_batch_sentences: int = option(64, "sentences translated at a time")
    max_queue_sentences: int = option(1024, "sentences that may wait; a request beyond them is answered 503")
    max_request_sentences: int = option(256, "sentences of a request; more are answered 413")
    max_sentence_characters: int = option(4000, "characters of a sentence; more are answered 413")
    max_body_bytes: int = option(1 << 20, "bytes of a request; more are answered 413")
    max_body_seconds: int = option(
        30, "time that a client has for the head of a request, for its body (answered 408), and to read the answer"
    )
    max_connections: int = option(512, "connections at a time; one more is answered 503")
    max_stop_seconds: int = option(60, "time that accepted requests have to end once the server is told to stop")
    with_scores: bool = option(True, "score the translations; one more forward pass of an AT model")

    def __post_init__(self) -> None:
        require_number("batch_wait_ms", self.batch_wait_ms, least=0, most=_LONGEST_WAIT_MS)
        for name in (
            "max_batch_sentences",
            "max_queue_sentences",
            "max_request_sentences",
            "max_sentence_characters",
            "max_body_bytes",
            "max_body_seconds",
            "max_connections",
            "max_stop_seconds",
        ):
            require_number(name, getattr(self, name), least=1)
        if self.max_request_sentences > self.max_queue_sentences:
            raise ValueError(
                f"`max_request_sentences` must be <= `max_queue_sentences` ({self.max_queue_sentences}), got "
                f"{self.max_request_sentences}. A larger request would never be accepted."
            )
