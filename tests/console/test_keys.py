"""A console that asks for an API key keeps it for the tab's session."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = [pytest.mark.console, pytest.mark.torch]

from playwright.sync_api import Browser, expect
from tests.console_browser import console
from tests.running_corral import Up


def test_a_key_is_asked_for_once_in_each_tab(up: Up, browser: Browser, tmp_path: Path) -> None:
    with console(up.status["server"], tmp_path, "--needs-key") as address:
        context = browser.new_context(base_url=address)
        page = context.new_page()
        page.goto("/")
        page.get_by_label("API key").fill("sk-mine")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="What is free")).to_be_visible()
        page.goto("/jobs")
        expect(page.get_by_text("No jobs yet").or_(page.locator("table"))).to_be_visible()
        assert set(page.request.get(f"{address}/alive").json()["keys"]) == {"sk-mine"}

        another = context.new_page()
        another.goto("/")
        expect(another.get_by_label("API key")).to_be_visible()
        context.close()
