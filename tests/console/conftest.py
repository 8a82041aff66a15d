"""One running Corral with a tiny base model, its console, and a Chromium, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")
pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, expect
from tests.console_browser import browser as opened_browser
from tests.console_browser import chromium, console
from tests.running_corral import Up, running
from tests.tiny_models import tiny_gpt2

from corral.volume import Volume

BASE = "tiny"
# Other tests may want the processors at the same time.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("console")
    tiny_gpt2(Volume(folder / "data").bases / BASE, n_positions=320)
    with running(folder) as up:
        yield up


@pytest.fixture(scope="session")
def address(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with console(up.status["server"], tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with opened_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page that may reach the console and nothing else, and in which nothing may fail."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    elsewhere: list[str] = []
    failed: list[str] = []
    local = (address, address.replace("http", "ws", 1), "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(local) else elsewhere.append(r.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    yield page
    context.close()
    assert not elsewhere, "nothing may be fetched from elsewhere"
    assert not failed
