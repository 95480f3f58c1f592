"""The pages of the site, and the check that they load nothing from elsewhere."""

from pathlib import Path

import pytest
import yaml

from docs.site.build import loaded_from_elsewhere, pages
from docs.site.links import repository
from tests.documents import ROOT


def test_links_of_all_pages_lead_somewhere() -> None:
    assert "how/scoring.md" in dict(pages())


def test_the_address_of_the_repository_is_the_same_everywhere() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["repo_url"] == repository()


@pytest.mark.parametrize(
    "tag",
    [
        '<script async src="https://example.org/a.js">',
        "<img src=//example.org/a.png>",
        '<link rel="stylesheet" href="https://example.org/a.css">',
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(tag: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f'<a href="https://example.org">here</a>{tag}')
    (line,) = loaded_from_elsewhere(tmp_path)
    assert line.startswith("page.html: ")
    assert "example.org/a." in line


def test_links_and_files_of_the_site_are_no_loads(tmp_path: Path) -> None:
    text = '<a href="https://example.org">a</a><script src="../a.js"></script>'
    (tmp_path / "page.html").write_text(text)
    assert loaded_from_elsewhere(tmp_path) == []
