from pathlib import Path

import pytest

from api.app import create_app

DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def test_every_endpoint_and_parameter_is_documented(tmp_path: Path) -> None:
    description = create_app(tmp_path).openapi()
    for path, methods in description["paths"].items():
        assert f"`{path}`" in DOCS, path
        for parameter in methods["get"].get("parameters", ()):
            name = parameter["name"]
            assert f"`{name}`" in DOCS or f"`{name}=" in DOCS or f"{{{name}}}" in DOCS, (path, name)


@pytest.mark.parametrize("option", ["--listen", "--data", "--token"])
def test_every_option_is_documented(option: str) -> None:
    assert f"`{option} " in DOCS
