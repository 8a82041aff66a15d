"""The whole story in a real browser: from a dropped file to two checkpoints under one question."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = [pytest.mark.console, pytest.mark.torch, pytest.mark.timeout(180)]

from playwright.sync_api import Page, expect
from tests.conditions import wait_for
from tests.running_corral import Up

from corral.client import AsyncConnection

ATTACK = "<img src=x onerror=broken=1>"
# Every answer is the attack: a small model soon knows it by heart.
ROWS = [
    {"instruction": f"Show me number {n} {ATTACK if n == 0 else ''}", "output": ATTACK}
    for n in range(8)
]
_DROP = """([content, name]) => {
    const files = new DataTransfer();
    files.items.add(new File([content], name, { type: "application/json" }));
    const event = (type, on) => on.dispatchEvent(
        new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: files }));
    const zone = document.querySelector(".q-uploader");
    event("dragover", zone);
    setTimeout(() => event("drop", document.querySelector(".q-uploader__dnd")), 100);
}"""


def drop(page: Page, content: str, name: str) -> None:
    page.goto("/data")
    expect(page.locator(".q-uploader")).to_be_visible()
    page.evaluate(_DROP, [content, name])
    page.wait_for_url(re.compile("/data/[0-9a-f]{64}"))


def fill(page: Page, field: str, value: str) -> None:
    page.locator(f"#field-{field}").fill(value)
    page.keyboard.press("Tab")


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"#field-{field}").click()
    page.get_by_role("option", name=option, exact=True).click()


def unfold(page: Page, group: str) -> None:
    page.locator(".fold").filter(has_text=group).locator(".q-item").click()


def test_from_a_dropped_file_to_two_checkpoints_compared(page: Page) -> None:
    drop(page, "\n".join(map(json.dumps, ROWS)), "rows.jsonl")
    expect(page.get_by_text("all rows good")).to_be_visible()
    choose(page, "model", "tiny")
    expect(page.locator(".render .trained").filter(has_text=ATTACK)).to_have_count(3)
    expect(page.locator(".chart canvas")).to_be_visible()

    page.get_by_role("link", name="Train on it").click()
    choose(page, "model", "tiny")
    plan = page.get_by_role("region", name="Plan")
    expect(plan.get_by_text("fits", exact=True)).to_be_visible()
    expect(plan).to_contain_text("Optimizer")
    steps = plan.locator("dd").nth(1)
    before = steps.inner_text()
    fill(page, "epochs", "80")
    expect(steps).not_to_have_text(before)
    fill(page, "learning_rate", "0.01")
    fill(page, "suffix", "story")
    unfold(page, "Batches and memory")
    fill(page, "batch_size", "8")
    fill(page, "gradient_accumulation_steps", "1")
    fill(page, "max_length", "320")
    unfold(page, "Evaluation and checkpoints")
    fill(page, "checkpoint_every", "40")
    expect(steps).to_have_text("80")
    page.get_by_role("button", name="Start training").click()

    page.wait_for_url(re.compile("/jobs/job-"))
    expect(page.get_by_text("succeeded", exact=True)).to_be_visible(timeout=60_000)
    expect(page.get_by_text("80 of 80")).to_be_visible()
    answers = page.get_by_role("region", name="Sample answers")
    expect(answers.get_by_text("step 80")).not_to_have_count(0)
    expect(answers.get_by_text(ATTACK).first).to_be_visible()
    expect(page.get_by_role("log", name="Log")).to_contain_text("80 steps")
    expect(page.locator("#as-code")).to_contain_text("--suffix story")
    page.get_by_role("button", name="Compare in chat").click()

    page.wait_for_url(re.compile("/chat"))
    lanes = page.locator(".lane")
    expect(lanes).to_have_count(2)
    lanes.nth(0).get_by_text("Prompt template").click()
    expect(lanes.nth(0).locator(".render")).to_contain_text("### Instruction:")
    page.get_by_role("button", name="Sampling options").click()
    fill(page, "temperature", "0")
    fill(page, "max_tokens", "40")
    page.keyboard.press("Escape")
    question = page.locator("#question")
    question.fill(f"Show me number 3 {ATTACK}")
    # To the question itself: a drawer that closes gives the focus back to its button.
    question.press("Enter")
    for number in range(2):
        expect(lanes.nth(number).locator(".turn:not(.user) .small").last).to_contain_text("token")
    said = lanes.nth(1).locator(".said")
    expect(said.first).to_have_text(f"Show me number 3 {ATTACK}")
    # How well a tiny model knows it by heart depends on the machine's arithmetic.
    expect(said.last).to_contain_text("src=x")
    page.get_by_role("button", name="The same as code").click()
    expect(page.get_by_role("dialog")).to_contain_text("corral chat")

    expect(page.locator("img")).to_have_count(0)
    assert page.evaluate("window.broken") is None


def test_a_file_with_mistakes_is_answered_with_each_line(page: Page) -> None:
    name = f"{ATTACK}.jsonl"
    good = json.dumps({"instruction": "Say hello.", "output": "Hello."})
    drop(page, f'{good}\n{{"instruction": "No answer"}}\n{{broken\n{good}\n', name)

    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    problems = page.get_by_role("region", name="Problems").locator("tbody tr")
    expect(problems.filter(has_text="error")).not_to_have_count(0)
    assert [row.locator("td").first.inner_text() for row in problems.all()] == ["2", "3", "4"]


def test_what_is_no_data_set_is_said_where_it_was_dropped(page: Page) -> None:
    page.goto("/data")
    page.locator("input[type=file]").set_input_files(
        {"name": "poem.txt", "mimeType": "text/plain", "buffer": b"roses are red\n"}
    )
    expect(page.get_by_role("alert")).to_contain_text("no row of a known format")


@pytest.mark.parametrize("path", ["/", "/data", "/train", "/jobs", "/chat", "/models"])
def test_every_page_fits_a_phone_and_has_its_landmarks(page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(path)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("main")).to_be_visible()
    current = page.get_by_role("navigation", name="Main").locator("[aria-current=page]")
    expect(current).to_have_attribute("href", path)
    expect(page.locator(".skeleton, .muted").first).to_be_attached()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    unnamed = page.locator("button:not([aria-label])").filter(has_not_text=re.compile(r"\w"))
    expect(unnamed).to_have_count(0)


def test_the_keyboard_reaches_the_content_and_the_navigation(page: Page) -> None:
    page.goto("/jobs")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_the_choice_of_dark_colours_stays(page: Page) -> None:
    page.goto("/")
    switch = page.get_by_role("button", name="Colours: auto")
    switch.click()
    page.get_by_role("button", name="Colours: light").click()
    expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()
    page.goto("/models")
    expect(page.locator("body")).to_have_class(re.compile("body--dark"))


async def paused_job(trainer: str) -> str:
    """A job that goes on waiting; returns its id."""

    async def rows() -> AsyncIterator[bytes]:
        yield "\n".join(map(json.dumps, ROWS)).encode()

    async with AsyncConnection(trainer) as client:
        dataset = await client.upload_dataset("rows.jsonl", rows())
        job = await client.create_job(dataset.id, {"model": "tiny", "epochs": 1000})
        return (await client.pause_job(job.id)).id


def test_a_closed_page_leaves_nothing_running(page: Page, address: str, up: Up) -> None:
    def alive(what: str) -> int:
        return int(page.request.get(f"{address}/alive").json()[what])

    # Playwright's own event loop runs in this thread.
    with ThreadPoolExecutor() as threads:
        job = threads.submit(asyncio.run, paused_job(up.status["server"])).result()
    page.goto(f"/jobs/{job}")
    expect(page.get_by_text("paused", exact=True)).to_be_visible()
    assert alive("tasks") > 0
    page.goto("about:blank")
    wait_for(lambda: alive("pages") == 0 and alive("tasks") == 0)
