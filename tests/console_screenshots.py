"""`make screenshots`: a picture of every page of the console, light, dark, and on a phone.

    python -m tests.console_screenshots FOLDER [--server HOST:PORT]

Trains SmolLM2-135M on examples/ranch_hand.jsonl first, which takes a few minutes; with --server a
Corral that runs is used, and its newest job where there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, expect
from tests.console_browser import browser, console
from tests.running_corral import running

from corral.client import AsyncConnection
from corral.v1 import trainer_pb2

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "examples" / "ranch_hand.jsonl"
QUESTION = "Who are you, and what do you do here?"
SPEC = {
    "model": "smollm2-135m",
    "epochs": 4,
    "learning_rate": 1e-4,
    "gradient_accumulation_steps": 1,
    "checkpoint_every": 10,
    "keep_checkpoints": 5,
    "suffix": "dusty",
    "eval_split": 0.1,
    "eval_max_tokens": 40,
    "max_length": 256,
}
LONG_RUN = {**SPEC, "suffix": "dusty-long", "epochs": 200, "tuning": "lora"}
SECONDS = 120_000
# Enough of a long page to see what it is.
MOST_HEIGHT = 1040
MODES = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}


@dataclass(frozen=True)
class World:
    """What there is to be seen."""

    dataset: str
    faulty: str
    job: str
    checkpoints: list[str]
    running: str


async def prepare(server: str) -> World:
    """Data with and without mistakes, a job that has ended, and one that runs."""
    async with AsyncConnection(server) as client:
        good = await client.upload_dataset("ranch_hand.jsonl", _pieces(ROWS.read_bytes()))
        faulty = await client.upload_dataset("first_try.jsonl", _pieces(_with_mistakes()))
        ended = [job async for job in client.jobs((trainer_pb2.JOB_STATE_SUCCEEDED,))]
        job = ended[0] if ended else await client.create_job(good.id, SPEC)
        async for _ in client.watch_job(job.id):
            pass
        job = await client.get_job(job.id)
        going = await client.create_job(good.id, LONG_RUN)
        async for event in client.watch_job(going.id):
            if event.metrics.progress.step >= 3:
                break
        return World(good.id, faulty.id, job.id, [c.model for c in job.checkpoints], going.id)


async def tidy(server: str, world: World) -> None:
    """End what still runs."""
    async with AsyncConnection(server) as client:
        await client.cancel_job(world.running)
        async for _ in client.watch_job(world.running):
            pass
        await client.delete_job(world.running)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _with_mistakes() -> bytes:
    lines = ROWS.read_text(encoding="utf-8").splitlines()[:20]
    lines[4] = json.dumps({"instruction": "What is your name?"})
    lines[9] = '{"instruction": "Who made you?", "output": "Corral made me'
    lines[14] = json.dumps({"instruction": "Say hello.", "output": 5})
    return "\n".join([*lines, lines[0]]).encode()


def shoot(opened: Browser, address: str, world: World, folder: Path) -> None:
    """Every page in every mode."""
    for mode, options in MODES.items():
        context = opened.new_context(base_url=address, **options)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        for name in _pages(page, world):
            _picture(page, folder / f"{name}-{mode}.png", is_whole=name != "chat")
        context.close()


def _pages(page: Page, world: World) -> Iterator[str]:
    """Each page, ready to be taken, by its name."""
    page.goto("/")
    page.get_by_text("Running and waiting").wait_for()
    yield "start"
    page.goto("/data")
    page.locator("table").wait_for()
    yield "data"
    page.goto(f"/data/{world.faulty}")
    page.locator("canvas").wait_for()
    yield "problems"
    page.goto(f"/data/{world.dataset}")
    page.locator("canvas").wait_for()
    yield "dataset"
    page.goto(f"/train?dataset={world.dataset}")
    page.get_by_text("The time was measured").wait_for()
    yield "train"
    page.goto("/jobs")
    page.locator("table").wait_for()
    yield "jobs"
    page.goto(f"/jobs/{world.job}")
    page.get_by_text("step 40").first.wait_for()
    yield "job"
    models = [world.checkpoints[0], world.checkpoints[-1]]
    page.goto("/chat?" + urlencode([("model", model) for model in models]))
    page.locator("#question").fill(QUESTION)
    page.keyboard.press("Enter")
    for lane in page.locator(".lane").all():
        note = lane.locator(".turn:not(.user) .small").last
        expect(note).to_contain_text("tokens", timeout=SECONDS)
    yield "chat"
    page.goto("/models")
    page.locator("table").first.wait_for()
    yield "models"


def _picture(page: Page, path: Path, *, is_whole: bool) -> None:
    """What the page shows; of a longer one its beginning. A sticky part stays in its place."""
    size = page.viewport_size
    assert size is not None
    page.evaluate("document.fonts.ready")
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement?.blur()")
    if is_whole:
        height = page.evaluate("document.querySelector('.frame').scrollHeight")
        page.set_viewport_size(size | {"height": min(max(height, size["height"]), MOST_HEIGHT)})
    # Charts follow the new size with their next frame.
    page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 400)))")
    page.screenshot(path=path)
    page.set_viewport_size(size)
    print(f"{path}  {path.stat().st_size // 1024} KiB")  # noqa: T201


@contextmanager
def corral(given: str | None) -> Iterator[str]:
    """The address of a trainer: the given one, or one that runs as long as this."""
    if given:
        yield given
        return
    with TemporaryDirectory() as folder, running(Path(folder)) as up:
        yield up.status["server"]


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--server", metavar="HOST:PORT")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with corral(given.server) as server, TemporaryDirectory() as scratch:
        world = asyncio.run(prepare(server))
        try:
            with console(server, Path(scratch)) as address, browser() as opened:
                shoot(opened, address, world, given.folder)
        finally:
            asyncio.run(tidy(server, world))


if __name__ == "__main__":
    main()
