"""The code of a run: what is copied, what a job then imports, and what the copy says of itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.launch import snapshot
from tests.runs.test_provenance import git

ROOT = Path(__file__).resolve().parents[2]
COMPILED = shutil.ignore_patterns("__pycache__")


def copy_of_the_code(target: Path, *, installed: bool) -> Path:
    """Lays this package out as a checkout has it, or as an installed wheel does."""
    shutil.copytree(ROOT / "ssl_zoo", target / "ssl_zoo", ignore=COMPILED)
    inside = target / "ssl_zoo" if installed else target
    shutil.copytree(ROOT / "methods", inside / "methods", ignore=COMPILED)
    (inside / "model_cards").mkdir()
    (inside / "model_cards" / "README.md").touch()
    if not installed:
        for name in ("setup.cfg", "pyproject.toml", ".gitignore"):
            shutil.copy(ROOT / name, target)
    return target


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout of this package with one commit."""
    root = copy_of_the_code(tmp_path / "a checkout", installed=False)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--no-verify", "-m", "One")
    return root


def python(code: str, *path: Path) -> str:
    """Returns what a Python prints that imports from these folders before all others."""
    variables = {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONSAFEPATH": "1"}
    return output([sys.executable, "-c", code], **variables)


def in_a_job(lines: list[str], code: str, **variables: str) -> str:
    """Returns what a Python prints after these shell lines, started in another checkout."""
    script = "\n".join([*lines, 'exec "$0" -c "$1"'])
    return output(["bash", "-c", script, sys.executable, code], **variables)


def output(command: list[str], **variables: str) -> str:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment = {**inherited, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def take(target: Path, *path: Path, like: Path | None = None) -> dict[str, Any]:
    """Takes a snapshot of the package that is imported from `path`."""
    code = (
        "import json; from pathlib import Path; from ssl_zoo.launch import snapshot; "
        f"like = {str(like or '')!r}; "
        f"print(json.dumps(snapshot.take_snapshot(Path({str(target)!r}), Path(like) if like else None)))"
    )
    facts: dict[str, Any] = json.loads(python(code, *path))
    assert snapshot.read_snapshot(target) == facts
    return facts


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


IMPORTED = """
import ssl_zoo, ssl_zoo.config, ssl_zoo.methods
from importlib.resources import files
print(ssl_zoo.__file__, ssl_zoo.config.__file__, ssl_zoo.methods.__file__, sep="\\n")
print(*files("ssl_zoo.model_cards").iterdir())
"""


def assert_imports_from(code: Path) -> None:
    lines = in_a_job(snapshot.setup_lines(code), IMPORTED).splitlines()
    assert [Path(line).is_relative_to(code) for line in lines] == [True] * 4


@pytest.mark.parametrize("installed", [False, True])
def test_a_job_imports_the_copy_and_so_does_a_job_of_a_job(
    tmp_path: Path, installed: bool
) -> None:
    source = copy_of_the_code(tmp_path / "site-packages", installed=installed)
    (source / "methods_of_others.py").touch()
    first, second = tmp_path / "my runs" / "code", tmp_path / "sub runs" / "code"
    facts = take(first, source)
    assert_imports_from(first)
    again = take(second, first, source)
    assert_imports_from(second)
    assert names(first) == {*names(source), "snapshot.json"} - {
        ".gitignore",
        "methods_of_others.py",
    }
    assert {**again, "time": ""} == {**facts, "time": ""}


@pytest.mark.slow
def test_a_job_resolves_a_recipe_of_the_copy(checkout: Path, tmp_path: Path) -> None:
    recipe = checkout / "methods" / "simclr" / "recipes" / "mine.yaml"
    recipe.write_text((recipe.parent / "digits.yaml").read_text() + "\nseed: 77\n")
    take(tmp_path / "code", checkout)
    recipe.unlink()
    show = "from ssl_zoo.runs.config import run_config; print(run_config('simclr@mine').seed)"
    assert in_a_job(snapshot.setup_lines(tmp_path / "code"), show) == "77"


def test_of_a_checkout_git_names_what_belongs_to_it(checkout: Path, tmp_path: Path) -> None:
    methods = checkout / "methods"
    (methods / "mine").mkdir()
    (methods / "mine" / "new_to_git.py").touch()
    (methods / "mine" / "ignored.pyc").touch()
    (checkout / "notes.txt").touch()
    (methods / "swav" / "method.py").unlink()
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "linked.py").touch()
    (methods / "linked").symlink_to(other)
    (methods / "cloned").mkdir()
    (methods / "cloned" / "own.py").touch()
    git(methods / "cloned", "init", "--quiet")
    take(tmp_path / "code", checkout)
    found = names(tmp_path / "code")
    assert {
        "methods/mine/new_to_git.py",
        "methods/linked/linked.py",
        "methods/cloned/own.py",
        "setup.cfg",
    } <= found
    assert not {name for name in found if ".git/" in name or name.endswith(".pyc")}
    assert not {"methods/swav/method.py", "notes.txt", ".gitignore"} & found


def test_a_snapshot_records_its_commit(checkout: Path, tmp_path: Path) -> None:
    (checkout / "notes.txt").touch()  # of no concern
    facts = take(tmp_path / "code", checkout)
    assert facts["commit"] == git(checkout, "rev-parse", "--short=12", "HEAD")
    assert facts["dirty"] is False
    assert facts["n_files"] == len(names(tmp_path / "code")) - 1
    assert facts["plugins"] == []
    assert not (tmp_path / "code" / "diff.patch").exists()


def test_it_holds_what_differs_from_the_commit(checkout: Path, tmp_path: Path) -> None:
    changed = checkout / "methods" / "swav" / "README.md"
    before = changed.read_bytes()
    changed.write_bytes(before + b"\xff\0\r\n")
    facts = take(tmp_path / "code", checkout)
    assert facts["dirty"] is True
    assert facts["commit"].endswith("-dirty")
    git(checkout, "apply", "--reverse", str(tmp_path / "code" / "diff.patch"))
    assert changed.read_bytes() == before


def test_a_method_that_git_does_not_know_makes_it_differ(checkout: Path, tmp_path: Path) -> None:
    (checkout / "methods" / "mine.py").touch()
    git(checkout, "config", "status.showUntrackedFiles", "no")
    facts = take(tmp_path / "code", checkout)
    assert (facts["dirty"], facts["commit"][-6:]) == (True, "-dirty")


def test_before_the_first_commit_it_is_unknown(tmp_path: Path) -> None:
    source = copy_of_the_code(tmp_path / "source", installed=False)
    git(source, "init", "--quiet")
    facts = take(tmp_path / "code", source)
    assert (facts["commit"], facts["dirty"]) == ("unknown", True)


def test_a_snapshot_inside_of_a_checkout_is_none(checkout: Path) -> None:
    """`runs/` lies in the checkout where people work."""
    (checkout / "methods" / "mine.py").touch()
    first, second = checkout / "runs" / "one" / "code", checkout / "runs" / "two" / "code"
    (checkout / "ssl_zoo" / "errors.py").write_text("class UserError(ValueError): pass\n")
    facts = take(first, checkout)
    (checkout / "methods" / "mine.py").unlink()
    git(checkout, "commit", "--quiet", "--no-verify", "--all", "-m", "Two")
    again = take(second, first)
    assert (again["commit"], again["digest"]) == (facts["commit"], facts["digest"])
    assert (second / "diff.patch").read_bytes() == (first / "diff.patch").read_bytes()
    named = "from ssl_zoo.runs.provenance import commit; print(commit())"
    assert in_a_job(snapshot.setup_lines(second), named) == facts["commit"]


def test_the_digest_depends_on_names_and_contents(checkout: Path, tmp_path: Path) -> None:
    file = checkout / "methods" / "mine.py"
    digests = []
    for number, text in enumerate(["a = 1\n", "a = 2\n", "a = 1\n"]):
        file.write_text(text)
        digests.append(take(tmp_path / str(number), checkout)["digest"])
    file.rename(file.with_name("yours.py"))
    digests.append(take(tmp_path / "3", checkout)["digest"])
    assert digests[0] == digests[2]
    assert len(set(digests)) == 3


def test_points_of_a_sweep_share_the_files_that_are_the_same(
    checkout: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "one" / "code", tmp_path / "two" / "code"
    facts = take(first, checkout)
    (checkout / "ssl_zoo" / "errors.py").write_text("class UserError(ValueError): pass\n")
    again = take(second, checkout, like=first)
    both = names(first) & names(second)
    shared = {name for name in both if (first / name).samefile(second / name)}
    assert names(second) - shared == {"ssl_zoo/errors.py", "snapshot.json", "diff.patch"}
    assert again["digest"] != facts["digest"]
    assert "ValueError): pass" in (second / "ssl_zoo" / "errors.py").read_text()
    assert "ValueError): pass" not in (first / "ssl_zoo" / "errors.py").read_text()


def plugin(folder: Path) -> Path:
    """Makes a plug-in of a package and one of a module, as importlib sees installed ones."""
    for name in ("their_package/inner", "their_package/__pycache__", "theirs-1.dist-info"):
        (folder / name).mkdir(parents=True)
    (folder / "their_package" / "__init__.py").touch()
    (folder / "their_package" / "__pycache__" / "x.pyc").touch()
    (folder / "their_package" / "inner" / "part.py").touch()
    (folder / "their_package" / "data").symlink_to(folder)
    (folder / "their_module.py").touch()
    (folder / "theirs-1.dist-info" / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (folder / "theirs-1.dist-info" / "entry_points.txt").write_text(
        "[ssl_zoo.plugins]\na = their_package.inner.part\nb = their_module:thing\nc = gone\n"
    )
    return folder


def test_plug_ins_that_are_being_worked_on_come_along(checkout: Path, tmp_path: Path) -> None:
    theirs, code = plugin(tmp_path / "theirs"), tmp_path / "code"
    facts = take(code, checkout, theirs)
    assert facts["plugins"] == ["their_module", "their_package"]
    assert {name for name in names(code) if name.startswith("their_")} == {
        "their_package/__init__.py",
        "their_package/inner/part.py",
        "their_module.py",
    }
    show = "import their_package.inner.part as p; print(p.__file__)"
    job = in_a_job(snapshot.setup_lines(code), show, PYTHONPATH=str(theirs))
    assert Path(job).is_relative_to(code)
    again = take(tmp_path / "code2", code, theirs)
    assert (again["plugins"], again["digest"]) == (facts["plugins"], facts["digest"])


def test_plug_ins_that_are_installed_do_not(checkout: Path, tmp_path: Path) -> None:
    theirs = plugin(tmp_path / "lib" / "site-packages")
    assert take(tmp_path / "code", checkout, theirs)["plugins"] == []
    assert not {name for name in names(tmp_path / "code") if name.startswith("their_")}


def test_it_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "old.py").touch()
    snapshot.take_snapshot(code)
    assert not (code / "old.py").exists()
    assert (code / "ssl_zoo" / "__init__.py").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["code"]


def test_half_a_snapshot_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        assert any(path.name == "errors.py" for path in tmp_path.rglob("*.py"))
        assert not (tmp_path / "code").exists()
        raise OSError("disk full")

    monkeypatch.setattr(snapshot, "_digest", fail)
    with pytest.raises(OSError, match="disk full"):
        snapshot.take_snapshot(tmp_path / "code")
    assert [*tmp_path.iterdir()] == []


def test_a_missing_snapshot_reads_as_none(tmp_path: Path) -> None:
    assert snapshot.read_snapshot(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", "[" * 100_000])
def test_a_damaged_snapshot_is_taken_again(text: str, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "snapshot.json").write_text(text)
    assert snapshot.read_snapshot(code) is None
    assert snapshot.take_snapshot(code) == snapshot.read_snapshot(code)


def test_the_copy_precedes_the_users_own_path(tmp_path: Path) -> None:
    show = "import os, sys; print(os.environ['PYTHONPATH'], sys.flags.safe_path)"
    code = tmp_path / "it's $HOME"
    code.mkdir()
    lines = snapshot.setup_lines(code)
    assert in_a_job(lines, show, PYTHONPATH="/theirs") == f"{code}:/theirs True"
    assert in_a_job(lines, show, PYTHONPATH="") == f"{code} True"


def test_each_point_of_an_array_imports_its_own_copy(tmp_path: Path) -> None:
    file = tmp_path / "my points.txt"
    places = [tmp_path / name / "code" for name in ("one", "my two", "$three")]
    for place in places:
        place.mkdir(parents=True)
    file.write_text("".join(f"{place}\n" for place in places))
    show = "import os, sys; print(os.environ['PYTHONPATH'], sys.flags.safe_path)"
    found = [
        in_a_job(
            snapshot.array_setup_lines(file), show, SLURM_ARRAY_TASK_ID=str(point), PYTHONPATH=""
        )
        for point in range(3)
    ]
    assert found == [f"{place} True" for place in places]


def test_without_its_copy_a_job_runs_no_other_code(tmp_path: Path) -> None:
    for lines in (
        snapshot.setup_lines(tmp_path / "gone"),
        snapshot.array_setup_lines(tmp_path / "no points"),
    ):
        script = "\n".join([*lines, "echo reached"])
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert "copy of its code is missing" in done.stderr


def test_a_path_that_python_cannot_search_is_refused(tmp_path: Path) -> None:
    for use in (snapshot.take_snapshot, snapshot.setup_lines):
        with pytest.raises(UserError, match="separates paths; choose another --output"):
            use(tmp_path / "lr:0.1")
    assert [*tmp_path.iterdir()] == []
