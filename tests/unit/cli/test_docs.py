from __future__ import annotations

from docs.make_cli import PAGE, page


def test_the_page_of_the_command_line_is_what_its_help_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run make docs"
