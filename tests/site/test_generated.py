"""Generated pages and tables."""

import pytest
import yaml

from docs.site.generated import TABLES, filled, method_page_texts
from docs.site.leaderboards import shown
from docs.site.markdown import sections, table
from docs.site.method_pages import groups, recipe_facts
from docs.site.settings_pages import kinds
from ssl_zoo.method import METHODS
from ssl_zoo.report.describe import fields
from ssl_zoo.runs.config import RunConfig
from tests.documents import ROOT, read


def test_every_method_has_a_page_that_the_site_shows() -> None:
    pages = {name for name, _, _ in method_page_texts()}
    assert pages == {
        f"methods/{name}.md" for name in METHODS if (ROOT / "methods" / name).is_dir()
    }
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page for page in pages if page not in nav] == []


def test_every_kind_of_component_is_on_a_page() -> None:
    marks = "".join(read(f"docs/reference/{kind}.md") for kind in kinds())
    assert [kind for kind in kinds() if f"<!-- generated: {kind} -->" not in marks] == []


def test_a_method_is_in_one_group() -> None:
    members = [name for group in groups().values() for name in group]
    assert len(members) == len(set(members))


def test_a_page_of_a_method_has_its_settings_recipes_and_results() -> None:
    page = {name: text for name, text, _ in method_page_texts()}["methods/swav.md"]
    assert "| `epsilon` |" in page
    assert "[`imagenet-bs256-200ep`]" in page
    assert "(reported) 72.7 linear top-1" in page
    assert "87.0 ± 1.9 (3 seeds)" in page
    assert "active_prototypes" in page


def test_the_head_of_a_recipe_is_read_with_its_continuations() -> None:
    facts = recipe_facts("swav", "photos")
    assert facts["Expected"].endswith(".")
    assert facts["Command"].startswith("ssl-zoo train swav@photos")


def test_settings_of_a_run_are_complete() -> None:
    text = TABLES["settings of a run"]()
    keys = [row["key"] for row in fields(RunConfig) if not row["key"].startswith("slurm.")]
    assert [key for key in keys if f"| `{key}` |" not in text] == []


def test_leaderboards_have_every_result_and_its_protocol() -> None:
    text = TABLES["leaderboards"]()
    assert "46.6 ± 0.5" in text
    assert "f98d1d8b7651" in text
    assert "35.4 [34.5, 36.3]" in text


def test_a_mark_is_filled_and_an_unknown_one_is_an_error() -> None:
    assert filled("a\n<!-- generated: methods -->\n").startswith("a\n## Clustering")
    with pytest.raises(KeyError, match="nothing"):
        filled("<!-- generated: nothing -->")


def test_cells_may_hold_bars_and_line_breaks() -> None:
    assert table(["a"], [["x | y\nz"]]).splitlines()[2] == "| x \\| y z |"


def test_sections_leave_comments_in_code_alone() -> None:
    text = "# T\nidea\n## A\n```bash\n## no heading\n```\n## B\nend\n"
    assert list(sections(text)) == ["", "A", "B"]


def test_scores_have_their_spread_or_interval() -> None:
    assert shown({"mean": 46.57, "std": 0.47}) == "46.6 ± 0.5"
    assert shown({"mean": 35.39, "interval": [34.51, 36.33]}) == "35.4 [34.5, 36.3]"
    assert shown(None) == ""


def test_the_site_asks_no_other_host() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert "analytics" not in settings["extra"]
