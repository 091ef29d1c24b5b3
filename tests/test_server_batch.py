"""The running batch and its worker: what joins and leaves changes no neighbor's text."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest
from running_server import MODEL, SECONDS, TOKENIZER, tiny_model

from gpt.generation import generate
from gpt.sampling import Sampling
from optimization.server_batch import Ended, Event, RunningBatch, Ticket
from optimization.server_requests import Refusal, Request
from optimization.server_worker import Events, Worker

PROMPTS = ["the quick brown fox", "a", "jumps over", "lazy dogs, and so on."]


def request(prompt: str, max_new: int = 12, temperature: float = 0.0, seed: int = 0) -> Request:
    return Request(TOKENIZER.encode(prompt), max_new, Sampling(temperature=temperature), seed)


def alone(wanted: Request, stop: set[int] | None = None) -> list[int]:
    """Returns what gpt writes for this request alone."""
    return generate(MODEL, [wanted.prompt], wanted.max_new, wanted.sampling, seed=wanted.seed,
                    stop=stop or ())[0]  # fmt: skip


def collect(events: Events, into: dict[Ticket, list[int]], ends: dict[Ticket, str]) -> None:
    for ticket, event in events:
        assert ticket not in ends, "an event behind the end"
        if isinstance(event, Ended):
            ends[ticket] = event.reason
        else:
            into.setdefault(ticket, []).append(event)


def write(batch: RunningBatch, arrivals: dict[int, list[Ticket]]) -> dict[Ticket, list[int]]:
    """Steps until all is written; ``arrivals`` says who joins before which step."""
    texts: dict[Ticket, list[int]] = {}
    ends: dict[Ticket, str] = {}
    for step in itertools.count():
        batch.join(arrivals.get(step, []))
        if not batch.rows and step > max(arrivals):
            return texts
        if batch.rows:
            collect(batch.step(), texts, ends)
    raise AssertionError


@pytest.mark.parametrize("starts", [(0, 0, 0, 0), (0, 3, 4, 9), (0, 30, 30, 31)], ids=str)
def test_a_row_is_what_its_prompt_gives_alone(starts: tuple[int, ...]) -> None:
    """Whoever joins when, greedy and sampled rows side by side, across the window's edge."""
    requests = [
        request(prompt, max_new, temperature, seed)
        for prompt, max_new, temperature, seed in zip(
            PROMPTS, (5, 40, 12, 33), (0.0, 0.8, 0.8, 0.0), (0, 1, 2, 3), strict=True
        )
    ]
    tickets = [Ticket(wanted) for wanted in requests]
    arrivals: dict[int, list[Ticket]] = {}
    for start, ticket in zip(starts, tickets, strict=True):
        arrivals.setdefault(start, []).append(ticket)
    texts = write(RunningBatch(MODEL), arrivals)
    for ticket, wanted in zip(tickets, requests, strict=True):
        assert texts[ticket] == alone(wanted)


def test_a_row_that_is_given_up_leaves_the_others_as_they_were() -> None:
    batch, tickets = RunningBatch(MODEL), [Ticket(request(prompt)) for prompt in PROMPTS]
    texts: dict[Ticket, list[int]] = {}
    ends: dict[Ticket, str] = {}
    batch.join(tickets)
    collect(batch.step(), texts, ends)
    tickets[0].cancelled = tickets[2].cancelled = True
    assert batch.leave() == [tickets[0], tickets[2]]
    while batch.rows:
        collect(batch.step(), texts, ends)
    assert [texts[tickets[i]] for i in (1, 3)] == [alone(tickets[i].request) for i in (1, 3)]
    assert set(ends) == {tickets[1], tickets[3]}


def test_a_stop_token_ends_a_row_and_is_not_part_of_it() -> None:
    wanted = request("the", 40)
    stop = {alone(wanted)[5]}
    expected = alone(wanted, stop)
    assert len(expected) <= 5
    batch, ticket = RunningBatch(MODEL, stop), Ticket(wanted)
    batch.join([ticket])
    events: list[tuple[Ticket, Event]] = []
    while batch.rows:
        events += batch.step()
    assert [event for _, event in events] == [*expected, Ended("stop")]


@pytest.fixture
def handed_out() -> list[tuple[Ticket, object]]:
    return []


@pytest.fixture
def make_worker(handed_out: list[tuple[Ticket, object]]) -> Iterator[object]:
    made: list[Worker] = []

    def make(batch: RunningBatch | None = None, **changes: object) -> Worker:
        settings = {"max_batch": 2, "max_waiting": 3, **changes}
        worker = Worker(batch or RunningBatch(MODEL), handed_out.extend, **settings)
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.stop(drop=True)
        assert worker.join(SECONDS)


def wait_until(condition: object) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def ends_of(handed_out: list[tuple[Ticket, object]]) -> list[Ticket]:
    return [ticket for ticket, event in handed_out if isinstance(event, Ended)]


def test_the_queue_has_a_limit_and_nothing_accepted_is_lost(make_worker, handed_out) -> None:
    worker = make_worker()  # not started: all wait
    tickets = [worker.submit(request(prompt)) for prompt in PROMPTS[:3]]
    with pytest.raises(Refusal, match="3 requests are waiting already: try again later") as refused:
        worker.submit(request("one too many"))
    assert refused.value.status == 503 and refused.value.headers == {"Retry-After": "1"}
    assert worker.metrics()["waiting"] == 3 and worker.metrics()["refused"] == 1
    worker.start()
    worker.stop()
    assert worker.join(SECONDS)
    assert set(ends_of(handed_out)) == set(tickets)
    with pytest.raises(Refusal, match="the server is stopping"):
        worker.submit(request("late"))


def test_continuous_lets_a_short_request_overtake_and_static_does_not(
    make_worker, handed_out
) -> None:
    order = {}
    for continuous in (True, False):
        handed_out.clear()
        worker = make_worker(continuous=continuous)
        long = worker.submit(request("the", 60))
        short = [worker.submit(request("a", new)) for new in (5, 5)]
        worker.start()
        wait_until(lambda: len(ends_of(handed_out)) == 3)
        order[continuous] = [[long, *short].index(ticket) for ticket in ends_of(handed_out)]
        assert worker.metrics()["steps"] == (60 if continuous else 65)
    assert order == {True: [1, 2, 0], False: [1, 0, 2]}


def test_a_cancelled_request_frees_its_place(make_worker, handed_out) -> None:
    worker = make_worker(max_batch=1)
    worker.start()
    running = worker.submit(request("the", 10**9))
    wait_until(lambda: worker.metrics()["running"] == 1)
    waiting = [worker.submit(request("a", 3)) for _ in range(3)]
    worker.cancel(waiting[0])
    assert worker.metrics()["waiting"] == 2 and worker.metrics()["cancelled"] == 1
    worker.cancel(running)
    wait_until(lambda: set(ends_of(handed_out)) == set(waiting[1:]))
    assert worker.metrics()["cancelled"] == 2 and worker.metrics()["answered"] == 2


def test_a_pass_is_counted_only_if_there_is_one(make_worker, handed_out) -> None:
    worker = make_worker()
    worker.start()
    given_up = worker.submit(request("the", 10**9))
    wait_until(lambda: len(handed_out) >= 3)
    worker.cancel(given_up)
    wait_until(lambda: worker.metrics()["running"] == 0)
    worker.stop()
    assert worker.join(SECONDS)
    assert worker.metrics()["steps"] == worker.metrics()["tokens"] == len(handed_out)


def test_dropping_ends_what_runs_and_what_waits(make_worker, handed_out) -> None:
    worker = make_worker(max_batch=1)
    worker.start()
    tickets = [worker.submit(request("the", 10**9)) for _ in range(3)]
    wait_until(lambda: worker.metrics()["running"] == 1)
    worker.stop(drop=True)
    assert worker.join(SECONDS)
    last = [event for _, event in handed_out if isinstance(event, Ended)]
    assert last == [Ended("error", "the server was stopped.")] * 3
    assert set(ends_of(handed_out)) == set(tickets)


def test_an_error_of_the_model_ends_its_requests_and_not_the_worker(
    make_worker, handed_out, monkeypatch
) -> None:
    model = tiny_model()
    worker, working = make_worker(RunningBatch(model)), model.project
    worker.start()

    def fail(_: object) -> None:
        raise RuntimeError("no memory\nleft")

    monkeypatch.setattr(model, "project", fail)
    worker.submit(request("the"))
    wait_until(lambda: handed_out)
    assert handed_out[-1][1] == Ended("error", "the model failed: no memory left")
    monkeypatch.setattr(model, "project", working)
    good = worker.submit(request("the"))
    wait_until(lambda: ends_of(handed_out)[-1] is good)
    assert [event for ticket, event in handed_out if ticket is good][:-1] == alone(good.request)
    assert worker.metrics()["failed"] == 1


def test_many_threads_may_submit_at_once(make_worker, handed_out) -> None:
    worker = make_worker(max_batch=4, max_waiting=100)
    worker.start()
    requests = [request(PROMPTS[i % 4], 3 + i % 5, 0.9, i) for i in range(24)]
    tickets: dict[int, Ticket] = {}

    def submit(number: int) -> None:
        tickets[number] = worker.submit(requests[number])

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(ends_of(handed_out)) == 24)
    for number, ticket in tickets.items():
        written = [event for other, event in handed_out if other is ticket][:-1]
        assert written == alone(requests[number])
    assert worker.metrics()["tokens_per_step"] > 1
