"""The pages of docs/ that are made from the code are what the code gives."""

from __future__ import annotations

from docs import make_api, make_configuration


def test_the_page_of_the_configuration_names_every_setting() -> None:
    written = make_configuration.PAGE.read_text(encoding="utf-8")
    assert written == make_configuration.page(), "run make docs"


def test_the_page_of_the_api_is_what_the_protos_say() -> None:
    assert make_api.PAGE.read_text(encoding="utf-8") == make_api.page(), "run make docs"
