"""What may be imported when: commands that only name things stay light."""

import sys
from pathlib import Path

import pytest

from tests.subprocesses import run

HEAVY = {"torch", "faiss", "submitit", "fvcore", "sklearn", "timm", "matplotlib"}


def imported_by(code: str, folder: Path) -> set[str]:
    """Returns the heavy packages that a program has imported at its end."""
    report = f"import sys\nprint()\nprint(*({HEAVY!r} & sys.modules.keys()))"
    done = run(sys.executable, "-c", f"{code}\n{report}", cwd=folder)
    return set(done.stdout.splitlines()[-1].split())


def command(*arguments: str) -> str:
    """Returns a program that runs `ssl-zoo` and goes on after it."""
    return (
        "import sys\nfrom ssl_zoo.cli.main import main\n"
        f"sys.argv = {['ssl-zoo', *arguments]!r}\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
    )


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    assert imported_by("import ssl_zoo", tmp_path) == set()


def test_help_is_light(tmp_path: Path) -> None:
    assert imported_by(command("--help"), tmp_path) == set()
    assert imported_by(command("train", "--help"), tmp_path) == set()


@pytest.mark.packaging
def test_listing_imports_torch_but_no_search_launcher_or_counter(tmp_path: Path) -> None:
    assert imported_by(command("list"), tmp_path) == {"torch"}


@pytest.mark.packaging
def test_a_config_is_resolved_without_search_launcher_or_counter(tmp_path: Path) -> None:
    assert imported_by(command("config", "swav"), tmp_path) == {"torch"}


def test_exported_names_are_there() -> None:
    import ssl_zoo

    assert [name for name in ssl_zoo.__all__ if not hasattr(ssl_zoo, name)] == []
    assert set(ssl_zoo.__all__) <= set(dir(ssl_zoo))


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    import ssl_zoo

    with pytest.raises(AttributeError, match="'ssl_zoo' has no attribute 'trian'"):
        ssl_zoo.trian  # noqa: B018
