"""Each public name is one object whatever was imported before it, and type checkers know it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_zoo
from tests import subprocesses

ROOT = Path(__file__).resolve().parent.parent
NAMES = [name for name in ssl_zoo.__all__ if name != "__version__"]
PROMISED = {
    *(
        "train",
        "evaluate",
        "compare",
        "cluster",
        "embed",
        "classify",
        "load",
        "submit",
        "run_config",
        "list_methods",
    ),
    *("list_models", "table", "RunConfig", "EvaluationConfig", "SlurmConfig", "Result"),
    *("Comparison",),
}
TAKES_ALL_NAMES = """
import inspect, sys
import ssl_zoo

names = sys.argv[1:]
first = {name: getattr(ssl_zoo, name) for name in names}
for name in [*names, *reversed(names)]:
    found = getattr(ssl_zoo, name)
    assert found is first[name], f"{name} has become {found}"
    fits = inspect.isclass if name[0].isupper() else inspect.isfunction
    assert fits(found), f"{name} is {found}"
    assert found.__name__ == name
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_a_name_is_the_same_object_before_and_after_all_others(place: int, tmp_path: Path) -> None:
    names = [*NAMES[place:], *NAMES[:place]]  # so that each comes first once, and last once
    subprocesses.run(sys.executable, "-c", TAKES_ALL_NAMES, *names, cwd=tmp_path, path=ROOT)


@pytest.mark.parametrize("name", NAMES)
def test_no_public_name_is_that_of_a_module(name: str) -> None:
    assert importlib.util.find_spec(f"ssl_zoo.{name}") is None


def test_all_public_names_are_listed() -> None:
    assert PROMISED <= set(ssl_zoo.__all__) <= set(dir(ssl_zoo))


def test_methods_and_models_are_listed_by_name() -> None:
    assert {"simclr", "swav"} <= set(ssl_zoo.list_methods())
    models = ssl_zoo.list_models()
    assert "torchvision:resnet50" in models
    assert "swav_tiny_resnet_digits_affine_30ep" in models
    assert len(set(models)) == len(models)


@pytest.mark.slow
def test_type_checkers_know_every_public_name(tmp_path: Path) -> None:
    file = tmp_path / "reveal.py"
    file.write_text("import ssl_zoo\n" + "".join(f"reveal_type(ssl_zoo.{n})\n" for n in NAMES))
    command = [sys.executable, "-m", "mypy", "--config-file", "setup.cfg", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    revealed = dict(re.findall(r'reveal\.py:(\d+): note: Revealed type is "(.*)"', done.stdout))
    kinds = {name: revealed[str(line)] for line, name in enumerate(NAMES, start=2)}
    assert {name: kind for name, kind in kinds.items() if not kind.startswith("def ")} == {}
