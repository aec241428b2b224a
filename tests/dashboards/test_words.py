from importlib import resources

import pytest

from dashboards import words

SOURCES = "\n".join(
    file.read_text(encoding="utf-8")
    for folder in ("", "figures", "queries", "templates")
    for file in resources.files("dashboards").joinpath(folder).iterdir()
    if file.name.endswith((".py", ".html")) and file.name != "words.py"
)


@pytest.mark.parametrize("name", [name for name in vars(words) if name.isupper()])
def test_every_word_is_shown_somewhere(name: str) -> None:
    assert f"w.{name}" in SOURCES or f"words.{name}" in SOURCES or f"import {name}" in SOURCES
