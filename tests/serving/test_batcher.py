"""Batches under a clock that runs only while everything waits for it."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hf_nat.decoding import Translation
from hf_nat.serving import Batcher, BatcherClosed, QueueFull


class FakeTime(selectors.SelectSelector):
    """Instead of waiting, time goes on."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits for ever"
        self.now += timeout
        return super().select(0)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    clock = FakeTime()

    def make_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(clock)
        loop.time = lambda: clock.now
        return loop

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(test())


def translation(sentence: str) -> Translation:
    return Translation(sentence.upper(), None, 1, False, None)


class Model:
    """Notes when it got which batch; a sentence takes its time, and one that says so an error."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.batches: list[tuple[float, list[str]]] = []
        self.at_work = 0

    async def __call__(self, sentences: list[str]) -> list[Translation]:
        self.batches.append((round(asyncio.get_running_loop().time(), 6), sentences))
        self.at_work += 1
        assert self.at_work == 1, "one call at a time"
        await asyncio.sleep(self.seconds * len(sentences))
        self.at_work -= 1
        if any("poison" in sentence for sentence in sentences):
            raise RuntimeError("poison")
        return [translation(sentence) for sentence in sentences]


def batcher(model: Any, wait: float = 0.005, batch: int = 4, queue: int = 100) -> Batcher:
    made = Batcher(model, wait_seconds=wait, max_batch_sentences=batch, max_queue_sentences=queue)
    made.task = asyncio.ensure_future(made.run())
    return made


async def texts(made: Batcher, sentences: str, after: float = 0.0) -> list[str]:
    """Submits the letters of a text after some time."""
    await asyncio.sleep(after)
    return [output.text for output in await made.submit(list(sentences))]


async def ended(made: Batcher) -> None:
    made.refuse()
    await made.task
    assert made.num_waiting == 0 and not made._queue


def test_a_batch_goes_when_its_oldest_sentence_has_waited_or_it_is_full() -> None:
    async def test() -> None:
        model = Model()
        made = batcher(model)
        answers = await asyncio.gather(
            texts(made, "a"),
            texts(made, "b", 0.003),
            texts(made, "c", 0.006),
            texts(made, "def", 0.008),
            texts(made, "ghijk", 0.02),
        )
        assert answers == [["A"], ["B"], ["C"], ["D", "E", "F"], list("GHIJK")]
        assert model.batches == [(0.005, ["a", "b"]), (0.008, list("cdef")), (0.02, list("ghij")), (0.025, ["k"])]
        await ended(made)

    run(test)


def test_without_a_wait_what_comes_goes_and_what_comes_meanwhile_goes_together() -> None:
    async def test() -> None:
        model = Model(seconds=0.1)
        made = batcher(model, wait=0.0)
        answers = await asyncio.gather(*(texts(made, letter, number / 100) for number, letter in enumerate("abcdef")))
        assert answers == [[letter.upper()] for letter in "abcdef"]
        assert model.batches == [(0.0, ["a"]), (0.1, list("bcde")), (0.5, ["f"])]
        await ended(made)

    run(test)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    async def test() -> None:
        model = Model(seconds=0.5)
        made = batcher(model, wait=0.0, batch=2, queue=6)
        await texts(made, "ab")
        assert made._seconds_a_sentence == pytest.approx(0.1), "a fifth of the newest"
        made._seconds_a_sentence = 0.5
        work = [asyncio.ensure_future(texts(made, letters, after)) for letters, after in (("cd", 0), ("efghi", 0.1))]
        await asyncio.sleep(0.2)
        assert made.num_waiting == 5
        with pytest.raises(QueueFull, match="5 sentences wait, and 2 more would be over the limit of 6.") as refused:
            await made.submit(["j", "k"])
        assert refused.value.retry_after == 3
        assert await texts(made, "j") == ["J"]
        assert [len(answer) for answer in await asyncio.gather(*work)] == [2, 5]
        await ended(made)

    run(test)


def test_one_request_fails_alone_and_the_worker_lives(caplog) -> None:
    async def test() -> None:
        model = Model()
        made = batcher(model)
        answers = await asyncio.gather(
            texts(made, "a"), made.submit(["poison", "b"]), texts(made, "c"), return_exceptions=True
        )
        assert answers[0] == ["A"] and answers[2] == ["C"]
        assert str(answers[1]) == "poison"
        assert await texts(made, "d") == ["D"]
        # What is left of a request that has failed is not translated.
        with pytest.raises(RuntimeError, match="poison"):
            await made.submit(["poison", *"efghij"])
        assert made.num_waiting == 0 and model.batches[-1][1] == ["poison", *"efg"]
        await ended(made)

    run(test)
    assert len(caplog.records) == 2


def test_too_few_translations_are_an_error() -> None:
    async def half(sentences: list[str]) -> list[Translation]:
        return [translation(sentence) for sentence in sentences[1:]]

    async def test() -> None:
        made = batcher(half)
        with pytest.raises(RuntimeError, match="gave 1 translations of 2 sentences"):
            await made.submit(["a", "b"])
        await ended(made)

    run(test)


def test_who_leaves_is_not_translated() -> None:
    async def test() -> None:
        model = Model(seconds=1.0)
        made = batcher(model, wait=0.0)
        first = asyncio.ensure_future(texts(made, "a"))
        await asyncio.sleep(0.1)
        gone, stays = asyncio.ensure_future(texts(made, "bcdefg")), asyncio.ensure_future(texts(made, "h"))
        await asyncio.sleep(0.1)
        assert made.num_waiting == 7
        gone.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert made.num_waiting == 1
        assert await asyncio.gather(first, stays) == [["A"], ["H"]]
        assert [sentences for _, sentences in model.batches] == [["a"], ["h"]]
        await ended(made)

    run(test)


def test_the_end_waits_for_what_was_accepted_and_for_nothing_new() -> None:
    async def test() -> None:
        model = Model(seconds=1.0)
        made = batcher(model, wait=100.0)
        accepted = [asyncio.ensure_future(texts(made, letters)) for letters in ("abcdef", "g")]
        await asyncio.sleep(0.1)
        made.refuse()
        with pytest.raises(BatcherClosed):
            await made.submit(["h"])
        assert await asyncio.gather(*accepted) == [list("ABCDEF"), ["G"]]
        assert asyncio.get_running_loop().time() < 10, "nobody waits for others that cannot come"
        await made.task
        made.refuse()  # A second signal may come late.

    run(test)


def test_no_sentence_is_no_batch() -> None:
    async def test() -> None:
        model = Model()
        made = batcher(model)
        assert await made.submit([]) == [] and not model.batches
        await ended(made)

    run(test)


@pytest.mark.parametrize("seed", range(20))
def test_random_requests_lose_and_mix_nothing(seed: int) -> None:
    draw = random.Random(seed)
    wait, most = draw.choice([0.0, 0.005, 0.05]), draw.randrange(1, 9)

    async def client(made: Batcher, number: int) -> str:
        await asyncio.sleep(draw.random())
        sentences = [f"{number}.{i}" for i in range(draw.randrange(12))]
        if is_poison := bool(sentences) and draw.random() < 0.1:
            sentences[draw.randrange(len(sentences))] += "poison"
        work = asyncio.ensure_future(made.submit(sentences))
        if draw.random() < 0.2:
            await asyncio.sleep(draw.random() / 10)
            work.cancel()
        try:
            outputs = await work
        except QueueFull:
            return "refused"
        except asyncio.CancelledError:
            return "left"
        except RuntimeError:
            assert is_poison
            return "failed"
        assert not is_poison and [output.text for output in outputs] == [sentence.upper() for sentence in sentences]
        return "served"

    async def test() -> None:
        model = Model(seconds=draw.random() / 200)
        made = batcher(model, wait, most, queue=40)
        ends = await asyncio.gather(*(client(made, number) for number in range(100)))
        assert made.num_waiting == 0 and not made._queue and "served" in ends
        assert all(1 <= len(sentences) <= most for _, sentences in model.batches)
        await ended(made)

    run(test)
