"""The page in a real browser, if Chromium is installed."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.comparison.compare import compare
from ssl_zoo.report.html_page.write import write_report
from tests.small import FAST, SHORT

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
ACTIONS = """
<script>
addEventListener("load", () => setTimeout(() => {
  const found = { drawn: document.querySelectorAll(".chart .main-svg").length > 0 };
  const rows = () => [...document.querySelector(".board").tBodies[0].rows];
  const names = () => rows().map((row) => row.cells[0].dataset.value);
  const scores = () => rows().map((row) => Number(row.cells[1].dataset.value));
  const [byName, byScore] = document.querySelectorAll(".board .sort");
  byName.click(); found.byName = names();
  byScore.click(); found.down = scores();
  byScore.click(); found.up = scores();
  found.order = byScore.closest("th").getAttribute("aria-sort");
  const filter = document.querySelector("#filter"), box = filter.querySelector("input");
  const kept = (words) => {
    box.value = words; box.dispatchEvent(new Event("input"));
    return [rows().filter((row) => row.checkVisibility()).map((row) => row.cells[0].dataset.value).sort(),
      filter.querySelector("output").textContent];
  };
  found.offered = filter.checkVisibility();
  found.filtered = kept(" SIM clr "); found.none = kept("swav simclr");
  box.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  found.cleared = rows().filter((row) => row.checkVisibility()).length;
  const shown = () => document.querySelectorAll(".chart[data-kind=charts] .scatterlayer .trace").length;
  found.before = shown();
  document.querySelector(".toggle").click();
  found.after = shown();
  document.querySelector("#axis").value = "minutes";
  document.querySelector("#axis").dispatchEvent(new Event("change"));
  found.axis = document.querySelector(".chart .xtitle").textContent;
  found.wide = document.documentElement.scrollWidth > innerWidth;
  const note = document.createElement("script");
  note.type = "application/json"; note.id = "found"; note.textContent = JSON.stringify(found);
  document.body.append(note);
}, 500));
</script>
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison of two methods, with the actions of a reader at its end."""
    folder = tmp_path_factory.mktemp("browser")
    compare(["swav", "simclr"], output=folder / "compared", overrides=[*FAST, *SHORT])
    write_report([folder / "compared"], folder / "report.html")
    text = (folder / "report.html").read_text()
    (folder / "acted.html").write_text(text.replace("</body>", f"{ACTIONS}</body>"))
    return folder / "acted.html"


def visit(page: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Opens a page and returns what the actions found, and what the console says."""
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
    ]
    command += [
        "--virtual-time-budget=9000",
        f"--user-data-dir={page.parent / 'profile'}",
        *options,
    ]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=180
    )
    found = re.search(r'id="found">(.*?)</script>', done.stdout)
    assert found is not None, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found[1]), "\n".join(console)


@pytest.mark.parametrize("size", ["1280,900", "500,900"])
def test_a_reader_sorts_switches_runs_off_and_sees_no_error(page: Path, size: str) -> None:
    found, console = visit(page, f"--window-size={size}")
    assert console == ""
    assert found["drawn"]
    assert found["byName"] == ["random_init", "raw_pixels", "simclr", "swav"]
    assert found["down"] == sorted(found["up"], reverse=True)
    assert found["up"] == sorted(found["up"])
    assert len({*found["up"]}) > 1
    assert found["order"] == "ascending"
    assert found["offered"]
    assert found["filtered"] == [["simclr"], "1 of 4"]
    assert found["none"] == [[], "0 of 4"]
    assert found["cleared"] == 4
    assert 0 < found["after"] < found["before"]
    assert found["axis"] == "minutes"
    assert not found["wide"]


def test_the_console_is_heard(page: Path) -> None:
    broken = page.with_name("broken.html")
    broken.write_text(
        page.read_text().replace("</body>", "<script>undefinedName()</script></body>")
    )
    _, console = visit(broken)
    assert "undefinedName" in console


def test_nothing_can_be_loaded_from_a_page(page: Path) -> None:
    loading = page.with_name("loading.html")
    image = '<img src="https://example.org/x.png"></body>'
    loading.write_text(page.read_text().replace("</body>", image))
    _, console = visit(loading)
    assert "Content Security Policy" in console
