"""What a server tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector


_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SENTENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ServerMeasures:
    """Counters and histograms of one server.

    Args:
        num_waiting (`Callable`): gives the number of sentences in the queue.
    """

    def __init__(self, num_waiting: Callable[[], int]):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "hf_nat_requests", "Answers to POST; 499: the client left before", ["status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "hf_nat_request_seconds",
            "From the head of a request to the end of its answer, status 200",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.sentences = Counter("hf_nat_sentences", "Sentences translated", registry=self.registry)
        self.batch_sentences = Histogram(
            "hf_nat_batch_sentences", "Sentences of a batch", registry=self.registry, buckets=_SENTENCES
        )
        self.batch_seconds = Histogram(
            "hf_nat_batch_seconds", "Time of a batch in the model", registry=self.registry, buckets=_SECONDS
        )
        waiting = Gauge("hf_nat_waiting_sentences", "Sentences in the queue", registry=self.registry)
        waiting.set_function(num_waiting)

    def batch(self, num_sentences: int, seconds: float) -> None:
        """Counts a batch that was translated."""
        self.sentences.inc(num_sentences)
        self.batch_sentences.observe(num_sentences)
        self.batch_seconds.observe(seconds)

    def request(self, status: int, seconds: float) -> None:
        """Counts an answer."""
        self.requests.labels(status=str(status)).inc()
        if status == 200:
            self.request_seconds.observe(seconds)
