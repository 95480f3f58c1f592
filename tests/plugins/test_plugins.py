"""Another package's method, backbone and augmentation, and packages that fail."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_zoo import plugins
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS
from ssl_zoo.runs.folder import RunFolder
from tests import subprocesses
from tests.subprocesses import pip_install, run

SOURCES = Path(__file__).parent / "third_party"
ROOT = Path(__file__).resolve().parents[2]
FAST = (
    "epochs=1",
    "global_batch_size=128",
    "schedule.warmup=2 steps",
    "evaluation.every=0 epochs",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three packages: a good one, a broken one, one that takes a name."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(SOURCES, folder / "sources")  # building leaves files beside the sources
    projects = [folder / "sources" / name for name in ("extras", "broken", "duplicate")]
    pip_install(*projects, target=folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def listing(installed: Path) -> subprocess.CompletedProcess[str]:
    return subprocesses.ssl_zoo("list", "--json", cwd=installed.parent, path=installed)


THREADS = """
from concurrent.futures import ThreadPoolExecutor
from ssl_zoo.method import METHODS
with ThreadPoolExecutor(4) as pool:
    print(*{len(names) for names in pool.map(lambda _: METHODS.names(), range(4))})
"""


def test_threads_that_ask_first_all_see_every_component(tmp_path: Path) -> None:
    done = run(sys.executable, "-c", THREADS, cwd=tmp_path, path=ROOT)
    assert int(done.stdout) >= 19  # one number, the same in all


@pytest.mark.packaging
@pytest.mark.parametrize(
    ("kind", "theirs", "ours"),
    [
        ("methods", "barlow_sketch", "swav"),
        ("backbones", "plain_cnn", "resnet50"),
        ("augmentations", "shifts", "multicrop"),
    ],
)
def test_components_of_another_package_are_listed_with_ours(
    listing: subprocess.CompletedProcess[str], kind: str, theirs: str, ours: str
) -> None:
    names = {row["name"] for row in json.loads(listing.stdout)[kind]}
    assert {theirs, ours} <= names


@pytest.mark.packaging
def test_broken_plugins_are_reported_by_name_and_reason(
    listing: subprocess.CompletedProcess[str],
) -> None:
    duplicate, broken = sorted(json.loads(listing.stdout)["broken_plugins"])
    assert broken.startswith("quantum (zoo-broken): ImportError: needs a quantum computer")
    assert duplicate.startswith("another_swav (zoo-duplicate): ValueError: method 'swav' of zoo_")
    assert "already registered by ssl_zoo.methods.swav.method.SwAV" in duplicate
    assert "plug-in quantum (zoo-broken) could not be loaded" in listing.stderr


@pytest.mark.packaging
def test_an_unknown_name_tells_which_plugins_are_missing(installed: Path, tmp_path: Path) -> None:
    done = subprocesses.ssl_zoo(
        "show", "method", "qubits", cwd=tmp_path, path=installed, check=False
    )
    assert done.returncode == 2
    assert "(not loaded: quantum (zoo-broken): ImportError: needs" in done.stderr


@pytest.mark.packaging
def test_a_method_of_another_package_trains_and_is_scored_by_name(
    installed: Path, tmp_path: Path
) -> None:
    parts = ("backbone=plain_cnn", "augmentation=shifts")
    subprocesses.ssl_zoo(
        "train", "barlow_sketch", *parts, *FAST, "-o", "run", cwd=tmp_path, path=installed
    )
    assert (tmp_path / "run" / "complete.json").is_file()
    assert all(record["train/loss"] > 0 for record in RunFolder(tmp_path / "run").metrics())
    done = subprocesses.ssl_zoo(
        "evaluate", "run", "--evaluators", "knn", "--json", cwd=tmp_path, path=installed
    )
    result = json.loads(done.stdout)
    assert (result["method"], result["backbone"]["settings"]["name"]) == (
        "barlow_sketch",
        "plain_cnn",
    )


@pytest.mark.packaging
def test_a_recipe_of_another_package_resolves(installed: Path, tmp_path: Path) -> None:
    shown = subprocesses.ssl_zoo("show", "method", "barlow_sketch", cwd=tmp_path, path=installed)
    assert "barlow_sketch@digits  The sketch on small digits" in shown.stdout
    resolved = subprocesses.ssl_zoo("config", "barlow_sketch@digits", cwd=tmp_path, path=installed)
    assert "epochs: 30" in resolved.stdout


@pytest.mark.packaging
def test_a_method_of_another_package_keeps_the_contract(installed: Path, tmp_path: Path) -> None:
    options = ("-k", "barlow_sketch", "-p", "no:cacheprovider", "--rootdir", str(ROOT))
    contract = str(ROOT / "tests" / "contract")
    done = run(sys.executable, "-m", "pytest", contract, *options, cwd=tmp_path, path=installed)
    assert "[100%]" in done.stdout


def test_a_plugin_that_fails_is_kept_by_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plugins, "FAILURES", {})

    def fail() -> None:
        raise RuntimeError("no such thing")

    plugins._try("odd (odd-package)", fail)
    assert plugins.failure_lines() == ["odd (odd-package): RuntimeError: no such thing"]
    assert "plug-in odd (odd-package) could not be loaded" in caplog.text
    with pytest.raises(UserError, match=r"not loaded: odd \(odd-package\): RuntimeError"):
        METHODS["odd"]


def test_the_guide_shows_the_example_that_is_tested() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for file in ("setup.cfg", "zoo_extras/method.py", "zoo_extras/recipes/digits.yaml"):
        assert (SOURCES / "extras" / file).read_text(encoding="utf-8") in guide, file
