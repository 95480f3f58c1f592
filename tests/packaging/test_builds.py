"""Wheel and source distribution hold the tree, and work without it."""

import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import subprocesses
from tests.subprocesses import pip_install, run

ROOT = Path(__file__).resolve().parents[2]
BUILT_OR_HIDDEN = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "experiments"
)

pytestmark = pytest.mark.packaging


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, because building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("packaging") / "source"
    shutil.copytree(ROOT, folder, ignore=BUILT_OR_HIDDEN)
    return folder


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    """The folder with the source distribution and the wheel that was built from it."""
    target = source.parent / "built"
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target))
    run(*build, str(source), cwd=source.parent)
    return target


@pytest.fixture(scope="module")
def installed(built: Path) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    target = built.parent / "site"
    pip_install(only(built, "*.whl"), target=target)
    return target


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def names_in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def names_in_tree(root: Path) -> set[str]:
    kinds = {
        "ssl_zoo": ("py", "yaml", "txt", "css", "js", "jinja"),
        "methods": ("py", "yaml", "md"),
        "model_cards": ("md", "safetensors", "yaml"),
    }
    found = {"ssl_zoo/py.typed"}
    for folder, endings in kinds.items():
        prefix = "" if folder == "ssl_zoo" else "ssl_zoo/"
        for ending in endings:
            paths = (root / folder).rglob(f"*.{ending}")
            found |= {prefix + path.relative_to(root).as_posix() for path in paths}
    return found


def test_the_wheel_holds_the_package_and_nothing_else(source: Path, built: Path) -> None:
    assert names_in_wheel(only(built, "*.whl")) == names_in_tree(source)


def test_the_wheel_has_licence_readme_and_command(built: Path) -> None:
    with zipfile.ZipFile(only(built, "*.whl")) as archive:
        inside = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        commands = archive.read(inside["entry_points.txt"]).decode()
        metadata = archive.read(inside["METADATA"]).decode()
    assert "LICENSE" in inside
    assert "ssl-zoo = ssl_zoo.cli.main:main" in commands
    assert "# ssl-zoo" in metadata


def test_the_source_distribution_holds_the_repository(source: Path, built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = ("setup.cfg", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "MANIFEST.in")
    tests = [path.relative_to(source).as_posix() for path in source.glob("tests/**/*.py")]
    assert [name for name in (*files, *tests) if name not in names] == []


def test_an_installed_wheel_works_from_anywhere(installed: Path, tmp_path: Path) -> None:
    listed = subprocesses.ssl_zoo("list", "methods", "--json", cwd=tmp_path, path=installed)
    names = [row["name"] for row in json.loads(listed.stdout)["methods"]]
    assert {"simclr", "swav"} <= set(names)
    code = (
        "import ssl_zoo.methods as m, ssl_zoo.cli.main as c; print(m.__file__); print(c.__file__)"
    )
    printed = run(sys.executable, "-c", code, cwd=tmp_path, path=installed).stdout.split()
    assert [Path(line).is_relative_to(installed) for line in printed] == [True, True]


def test_an_installed_wheel_finds_recipes_and_cards(installed: Path, tmp_path: Path) -> None:
    subprocesses.ssl_zoo("config", "swav@digits", cwd=tmp_path, path=installed)
    code = "from ssl_zoo.runs.card_files import card_files; print(*card_files(), sep='\\n')"
    cards = run(sys.executable, "-c", code, cwd=tmp_path, path=installed).stdout.split()
    assert cards == sorted(path.stem for path in (ROOT / "model_cards").glob("*.safetensors"))


def test_a_checkout_works_without_installing(source: Path) -> None:
    code = "import ssl_zoo.methods as m; print(m.__file__)"
    printed = run(sys.executable, "-c", code, cwd=source).stdout.strip()
    assert Path(printed) == source / "methods" / "__init__.py"
    subprocesses.ssl_zoo("config", "swav", cwd=source)


def test_the_plain_name_methods_is_refused(source: Path) -> None:
    done = run(sys.executable, "-c", "import methods", cwd=source, check=False)
    assert "import 'ssl_zoo.methods', not 'methods'" in done.stderr.splitlines()[-1]
