"""Figures that Prometheus can read: of calls, of jobs, of a worker's attempts, of loaded models."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.conditions import until
from tests.fakes import MemoryJobStore
from tests.job_builders import submission
from tests.rpc_builders import SERVICE, Answer, call, echo_service, running, unix_address

from corral.errors import AlreadyRunningError, FencedError, JobNotFoundError, UnavailableError
from corral.generation.answers import Finish as AnswerFinish
from corral.generation.answers import FinishReason
from corral.inference.engine import Engine
from corral.inference.loaded import ModelCache
from corral.inference.metrics import inference_collector
from corral.jobs.records import JobState
from corral.rpc.health import is_serving
from corral.rpc.metrics import CallMetrics, metrics_endpoint
from corral.sampling import SamplingOptions
from corral.settings import Settings
from corral.trainer.metrics import job_collector
from corral.trainer.worker.metrics import WorkerMetrics
from corral.trainer.worker.verdict import Finish, Release

DASHBOARD = Path(__file__).resolve().parents[3] / "deploy" / "dashboards" / "corral.json"
SECONDS = 10

# Values by the labels' values, in the order of the labels' names.
Samples = dict[tuple[str, ...], float]


async def read(registry: CollectorRegistry) -> dict[str, Samples]:
    """What Prometheus would read now."""
    # In a thread, as the endpoint does it: some figures are read in this event loop.
    text = (await asyncio.to_thread(generate_latest, registry)).decode()
    found: dict[str, Samples] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


@asynccontextmanager
async def measured(
    registry: CollectorRegistry, answer: Answer, folder: Path
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server whose calls are measured."""
    interceptors = [CallMetrics(registry)]
    service = echo_service(answer, before_answer=[b"first"])
    async with (
        running(service, unix_address(folder), interceptors=interceptors) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


async def succeed(_requests: list[bytes], _context: Any) -> bytes:
    return b""


class EmptyHanded:
    """A job store that is away."""

    async def counts(self) -> dict[JobState, int]:
        raise UnavailableError("Redis does not answer.")


class OneModel:
    """Ten bytes of weights, and answers of one step that wait until they may be given."""

    def __init__(self) -> None:
        self.parts = {"weights": 10}
        self.may_answer = threading.Event()


class OneAnswer:
    prompt_tokens = 1
    completion_tokens = 1


class OneBatch:
    """The answers of a OneModel. They take no memory."""

    reserved_bytes = 0
    kept_bytes = 0

    def __init__(self, model: OneModel) -> None:
        self._model = model
        self._answers: list[OneAnswer] = []

    def __len__(self) -> int:
        return len(self._answers)

    def bytes_for(self, answer: OneAnswer) -> int:
        return 0

    def drop_oldest(self) -> bool:
        return False

    def join(self, answer: OneAnswer) -> None:
        self._answers.append(answer)

    def leave(self, answer: OneAnswer) -> None:
        self._answers.remove(answer)

    def step(self) -> list[tuple[OneAnswer, list[AnswerFinish]]]:
        assert self._model.may_answer.wait(SECONDS)
        ended, self._answers = self._answers, []
        return [(answer, [AnswerFinish(FinishReason.STOP, 1, 1)]) for answer in ended]


@contextmanager
def inference(model: OneModel) -> Iterator[tuple[ModelCache[OneModel], Engine]]:
    """A cache of that model, and an engine with one slot."""
    cache = ModelCache(lambda folder: model, lambda folder: model.parts, budget=100)
    engine = Engine(lambda *_: OneAnswer(), lambda _: OneBatch(model), slots=1, waiting=5)
    try:
        yield cache, engine
    finally:
        model.may_answer.set()
        engine.close()
        cache.close()


# ---------------------------------------------------------------- calls


async def test_a_call_is_counted_with_the_status_that_the_client_gets(tmp_path: Path) -> None:
    async def answer(requests: list[bytes], _context: Any) -> bytes:
        if requests == [b"lost"]:
            raise JobNotFoundError("There is no job.")
        return b""

    registry = CollectorRegistry()
    async with measured(registry, answer, tmp_path) as channel:
        for kind in ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"):
            await call(channel, kind, b"found")
            with pytest.raises(grpc.RpcError):
                await call(channel, kind, b"lost")

    handled = (await read(registry))["grpc_server_handled_total"]
    assert handled == {
        (code, method, SERVICE, kind): 1.0
        for code in ("OK", "NOT_FOUND")
        for method, kind in (
            ("UnaryUnary", "unary"),
            ("UnaryStream", "server_stream"),
            ("StreamUnary", "client_stream"),
            ("StreamStream", "bidi_stream"),
        )
    }


async def test_a_stream_that_the_client_leaves_is_open_until_then(tmp_path: Path) -> None:
    forever = asyncio.Event()

    async def hang(_requests: list[bytes], _context: Any) -> bytes:
        await forever.wait()
        return b""

    registry = CollectorRegistry()
    async with measured(registry, hang, tmp_path) as channel:
        stream = channel.unary_stream(f"/{SERVICE}/UnaryStream")(b"")
        await stream.read()
        assert list((await read(registry))["grpc_server_open_calls"].values()) == [1.0]
        stream.cancel()
        labels = {"grpc_type": "server_stream", "grpc_service": SERVICE}
        labels |= {"grpc_method": "UnaryStream", "grpc_code": "CANCELLED"}
        await until(lambda: registry.get_sample_value("grpc_server_handled_total", labels), SECONDS)
    assert list((await read(registry))["grpc_server_open_calls"].values()) == [0.0]


async def test_health_checks_are_not_counted(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with measured(registry, succeed, tmp_path) as channel:
        assert await is_serving(channel)
    assert "grpc_server_started_total" not in await read(registry)


# ---------------------------------------------------------------- the endpoint


async def test_the_endpoint_tells_what_the_event_loop_knows() -> None:
    store = MemoryJobStore()
    await store.submit(submission("job-1"))
    registry = CollectorRegistry()
    registry.register(job_collector(store))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with metrics_endpoint(registry, Settings(metrics_port=port)):
        text = await asyncio.to_thread(get, port)
    assert 'corral_jobs{state="QUEUED"} 1.0' in text
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(get, port)


def get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as answer:
        return str(answer.read().decode())


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(metrics_port=taken.getsockname()[1])
        with (
            pytest.raises(AlreadyRunningError, match=str(settings.metrics_port)),
            metrics_endpoint(CollectorRegistry(), settings),
        ):
            pass


# ---------------------------------------------------------------- jobs, attempts, models


async def test_jobs_are_counted_in_every_state() -> None:
    store = MemoryJobStore()
    for number in range(3):
        await store.submit(submission(f"job-{number}"))
    await store.claim("worker-1", 10)
    registry = CollectorRegistry()
    registry.register(job_collector(store))

    jobs = (await read(registry))["corral_jobs"]

    assert jobs == {(str(state),): 0.0 for state in JobState} | {
        ("QUEUED",): 2.0,
        ("STARTING",): 1.0,
    }


async def test_the_rest_is_told_also_while_the_store_is_away() -> None:
    registry = CollectorRegistry()
    registry.register(job_collector(cast(MemoryJobStore, EmptyHanded())))
    WorkerMetrics(registry)

    found = await read(registry)

    assert "corral_jobs" not in found
    assert found["corral_worker_runs"] == {(): 0.0}


@pytest.mark.parametrize(
    ("decision", "outcome"),
    [
        (Finish(JobState.SUCCEEDED), "succeeded"),
        (Finish(JobState.CANCELLED), "cancelled"),
        (Release("The worker shuts down.", strike=False), "released"),
        (Release("It was killed.", strike=True), "struck"),
    ],
)
async def test_an_attempt_is_counted_by_what_became_of_it(
    decision: Finish | Release, outcome: str
) -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    with metrics.attempt():
        assert (await read(registry))["corral_worker_runs"] == {(): 1.0}
        metrics.decided(decision)

    found = await read(registry)
    assert found["corral_worker_runs"] == {(): 0.0}
    assert found["corral_worker_attempts_total"] == {(outcome,): 1.0}


async def test_an_attempt_that_another_worker_took_over_is_lost() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    with pytest.raises(FencedError), metrics.attempt():
        raise FencedError("Attempt 1 lost the lease.")
    assert (await read(registry))["corral_worker_attempts_total"] == {("lost",): 1.0}


async def test_answers_in_the_making_and_waiting_ones_are_told_apart() -> None:
    model = OneModel()
    registry = CollectorRegistry()
    with inference(model) as (cache, engine):
        registry.register(inference_collector(cache, engine))
        async with cache.use(Path("a")) as loaded:
            answers = [engine.submit(cast(Any, loaded), [1], SamplingOptions()) for _ in range(3)]
            asked = [asyncio.create_task(anext(answer)) for answer in answers]
            await until(lambda: engine.waiting == 2, SECONDS)

            found = await read(registry)
            assert found["corral_answers_writing"] == {(): 1.0}
            assert found["corral_answers_waiting"] == {(): 2.0}
            assert found["corral_models_loaded"] == {(): 1.0}
            assert found["corral_models_loaded_bytes"] == {(): 10.0}

            model.may_answer.set()
            await asyncio.gather(*asked)
            for answer in answers:
                await answer.aclose()
        assert (await read(registry))["corral_answers_writing"] == {(): 0.0}


# ---------------------------------------------------------------- the dashboard


def metrics_in(expression: str) -> set[str]:
    """The metrics that a PromQL expression reads: names that are no label of ours."""
    without_labels = re.sub(r"\{[^}]*\}|\b(?:by|without) \([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:corral|grpc)_\w+", without_labels))


async def test_every_figure_of_the_dashboard_is_one_that_a_service_tells(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(job_collector(MemoryJobStore()))
    WorkerMetrics(registry).decided(Finish(JobState.SUCCEEDED))
    with inference(OneModel()) as (cache, engine):
        registry.register(inference_collector(cache, engine))
        async with measured(registry, succeed, tmp_path) as channel:
            await call(channel, "UnaryUnary", b"")
        told = set(await read(registry))

    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    shown = set().union(*map(metrics_in, expressions))

    assert len(shown) >= 8
    assert shown <= told
