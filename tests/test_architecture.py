"""Who imports whom, and who spells whose name; read from the source, nothing is imported."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ssl_zoo.evaluators.knn.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parent.parent
GROUND = {
    "_version",
    "config",
    "distributed",
    "errors",
    "files",
    "plain_text",
    "plugins",
    "registry",
    "schedule",
    "yaml_reading",
}
PARTS = {
    *("assignment", "augmentations", "backbones", "data", "heads", "losses", "memory", "optim"),
    *("frozen", "method", "teacher", "trackers"),
}
RUNS = {*GROUND, *PARTS, "evaluators", "runs"}
SCORES = {*RUNS, "formats", "weights", "evaluation"}
MAY_IMPORT: dict[str, set[str]] = {
    # the ground
    "_version": set(),
    "errors": set(),
    "plugins": {"errors"},
    "files": set(),
    "distributed": {"errors"},
    "plain_text": set(),
    "yaml_reading": set(),
    "config": {"errors", "yaml_reading"},
    "registry": {"config", "errors", "plugins"},
    "schedule": {"config"},
    # parts
    "assignment": GROUND,
    "heads": GROUND,
    "optim": GROUND,
    "backbones": GROUND,
    "augmentations": {*GROUND, "backbones"},
    "data": {*GROUND, "augmentations"},
    "losses": {*GROUND, "assignment"},
    "trackers": GROUND,
    "method": {*GROUND, "backbones"},
    "teacher": {*GROUND, "method"},
    "frozen": GROUND,
    "memory": {*GROUND, "assignment", "method"},
    "evaluators": {*GROUND, "augmentations", "backbones", "data"},
    "formats": {*GROUND, "backbones", "data", "heads"},
    "registries": {*GROUND, *PARTS, "evaluators", "formats"},
    "masked_distillation": {
        *GROUND,
        *("augmentations", "backbones", "heads", "losses", "memory", "method", "teacher"),
    },
    "masked_codes": {*GROUND, "augmentations", "backbones", "frozen", "losses", "method"},
    "methods": {*GROUND, *PARTS, "formats", "masked_codes", "masked_distillation"},
    # rooms
    "runs": {*GROUND, *PARTS, "evaluators"},
    "weights": {*RUNS, "formats"},
    "jobs": {*GROUND, "runs"},
    "evaluation": {*RUNS, "formats", "weights"},
    "training": SCORES,
    "explore": SCORES,
    "planning": {*SCORES, "training"},
    "doctor": {*SCORES, "jobs", "planning", "training"},
    "testing": {*SCORES, "training"},
    "comparison": {*SCORES, "training", "planning"},
    "launch": {*SCORES, "training", "jobs", "planning", "comparison"},
    "report": {*SCORES, "registries", "jobs", "explore", "comparison", "doctor", "training"},
    "cli": {
        *SCORES,
        *(
            "registries",
            "jobs",
            "explore",
            "comparison",
            "doctor",
            "training",
            "planning",
            "launch",
            "report",
        ),
    },
    "__main__": {"cli"},
}
"""The modules and folders below `ssl_zoo/`, and which others each may import. Whatever it names stands above
it, so imports run one way. A folder or module that is not in the table does not belong there."""
SHORT = 3
"""Letters of names that are parts of other words, as `dit` is of `edit`: they must be words of their own."""
ROLES = {"base", "config", "folder", "method", "official"}
"""Modules that may share their name with one of another folder: they have the same job in each."""
LIBRARIES = {"timm", "torchvision"}
"""Modules that bear the name of the library that they adapt."""
KNN_NAMES = set(PROTOCOLS)  # protocols bear the names of the methods that made them known
HEAVY = {
    *("faiss", "fvcore", "scipy", "sklearn", "submitit", "timm", "torchvision"),
    *("jinja2", "mlflow", "plotly", "tensorboard", "trackio", "wandb"),
}
MARKS = ("slow", "long", "distributed", "packaging", "slurm")
"""Marks of tests that have a part of `.ci/run` of their own."""
APART = {
    *("ssl_zoo.backbones.torchvision_resnet", "ssl_zoo.launch.executors"),
    "ssl_zoo.launch.controller",
}
"""Modules that are themselves imported where they are used."""


def name_of(path: Path) -> str:
    """Returns the name a file is imported by."""
    relative = path.relative_to(ROOT).with_suffix("")
    parts = ["ssl_zoo", *relative.parts] if relative.parts[0] == "methods" else [*relative.parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path
    for folder in ("ssl_zoo", "methods")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
METHOD_MODULES = {
    name: path for name, path in MODULES.items() if name.startswith("ssl_zoo.methods")
}
CORE_MODULES = {name: path for name, path in MODULES.items() if name not in METHOD_MODULES}
METHOD_NAMES = {
    path.name for path in (ROOT / "methods").iterdir() if (path / "__init__.py").is_file()
}


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST, *, in_functions: bool = True) -> Iterator[str]:
    """Yields the names of imported modules, those that only type checkers see among them.

    Args:
        in_functions: whether imports count that happen when a function is called.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and not in_functions:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)
        yield from imports(node, in_functions=in_functions)


def ours(path: Path) -> set[str]:
    """Returns the modules of this repository that a file imports, sooner or later."""
    return {name for name in imports(parse(path)) if name in MODULES}


def area(module: str) -> str:
    """Returns the folder or module right below the package: `losses`, `config`."""
    return module.split(".")[1] if "." in module else module


def words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields line and text of every identifier and string, but for docstrings."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring of a module, class, function or attribute
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "name", "arg", "asname", "module", "value"):
            text = getattr(node, field, None)
            if isinstance(text, str):
                yield line, text
        yield from words(node)


def test_the_core_imports_no_method() -> None:
    importing = {
        module
        for module, path in CORE_MODULES.items()
        if any(name.startswith("ssl_zoo.methods") for name in imports(parse(path)))
    }
    assert importing == set()


def test_the_core_spells_no_method() -> None:
    spelt = [
        f"{module}, line {line}: {text}"
        for module, path in CORE_MODULES.items()
        for line, text in words(parse(path))
        if mentions(text, METHOD_NAMES - (KNN_NAMES if area(module) == "evaluators" else set()))
    ]
    assert spelt == []


def mentions(text: str, names: set[str]) -> bool:
    plain = text.lower().replace("_", "").replace("-", "")
    plain = plain.replace("selfsupervised", "")  # the field's name, not the baseline's
    words = set(re.findall("[a-z0-9]+", text.lower()))
    return any(
        name in words if len(name) <= SHORT else name.replace("_", "") in plain for name in names
    )


def test_only_the_plugin_finder_names_the_package_of_methods() -> None:
    naming = {
        module
        for module, path in CORE_MODULES.items()
        if any(text.startswith("ssl_zoo.methods") for _, text in words(parse(path)))
    }
    assert naming == {"ssl_zoo.plugins"}


def test_every_module_imports_what_the_table_allows() -> None:
    foreign = {
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if module != "ssl_zoo"
        for name in ours(path)
        if area(name) not in {area(module), *MAY_IMPORT.get(area(module), set())}
    }
    assert foreign == set()


def test_the_table_names_what_stands_below_the_package() -> None:
    assert {area(module) for module in MODULES} - {"ssl_zoo"} == set(MAY_IMPORT)


def test_the_table_runs_one_way() -> None:
    assert circle(MAY_IMPORT) == []


def test_a_method_imports_no_other_method() -> None:
    foreign = {
        (module, name)
        for module, path in METHOD_MODULES.items()
        for name in ours(path)
        if area(name) == "methods" and folder_of(name) != folder_of(module)
    }
    assert foreign == set()


def folder_of(method_module: str) -> list[str]:
    """Returns `ssl_zoo.methods.NAME` in parts."""
    return method_module.split(".")[:3]


def test_modules_of_one_name_have_one_job() -> None:
    """Commands bear the names of what they call; methods are named apart by their folders."""
    found = defaultdict(set)
    for module in CORE_MODULES:
        name = module.split(".")[-1]
        if area(module) not in (name, "cli"):
            found[name].add(module)
    shared = {name: modules for name, modules in found.items() if len(modules) > 1}
    assert {name: shared[name] for name in shared if name not in ROLES | LIBRARIES} == {}


def test_functions_of_one_name_have_one_meaning() -> None:
    found = defaultdict(set)
    for module, path in CORE_MODULES.items():
        for node in parse(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                found[node.name].add(module)
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


def test_a_mark_is_spelled_in_the_file_of_its_tests() -> None:
    """`.ci/run` finds the files of a part by that; all of tests/slurm is marked by its conftest."""
    spelled = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if not path.name.startswith("test_")
        and any(f"mark.{mark}" in path.read_text("utf-8") for mark in MARKS)
    }
    assert spelled == {"tests/slurm/conftest.py"}


def test_no_file_is_above_400_lines() -> None:
    """Nor is one of the tests."""
    files = [*MODULES.values(), *sorted((ROOT / "tests").rglob("*.py"))]
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files
    }
    assert {name: n for name, n in lines.items() if n > 400} == {}


def test_no_function_is_above_60_lines_or_8_parameters() -> None:
    found = {
        f"{module}.{node.name}": (node.end_lineno or 0) + 1 - node.lineno
        for module, path in MODULES.items()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and ((node.end_lineno or 0) - node.lineno >= 60 or n_parameters(node.args) > 8)
    }
    assert found == {}


def n_parameters(arguments: ast.arguments) -> int:
    """Returns how many parameters a function has, `self` and `cls` left out."""
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([each for each in named if each.arg not in ("self", "cls")])


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    found = {
        (module, name.split(".")[0])
        for module, path in MODULES.items()
        if module not in APART
        for name in imports(parse(path), in_functions=False)
        if name.split(".")[0] in HEAVY
    }
    importing = {
        module
        for module, path in MODULES.items()
        if APART & set(imports(parse(path), in_functions=False))
    }
    assert (found, importing) == (set(), set())


def test_imports_run_one_way() -> None:
    """Also those inside functions and those for type checkers."""
    graph = {name: ours(path) for name, path in MODULES.items() if name != "ssl_zoo"}
    for name in graph:  # a package imports its modules, which is no dependency of theirs on it
        graph[name] = {to for to in graph[name] if to in graph and not name.startswith(to + ".")}
    assert circle(graph) == []


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Returns the modules on some circle, in order; none where there is no circle."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph[node]):
            found = visit(target, [*path, node])
            if found:
                return found
        done.add(node)
        return []

    return next((found for node in graph if (found := visit(node, []))), [])


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_a_spelt_name_is_found() -> None:
    tree = ast.parse('"""swav"""\nx = 1\n"""swav"""\nif y.swav == "swav":\n    f(swav=1)\n')
    assert [text for _, text in words(tree) if text == "swav"] == ["swav", "swav", "swav"]


def test_a_short_name_is_a_word_of_its_own() -> None:
    given = ("edit", "conditional", "train dit", "dit_head")
    assert [text for text in given if mentions(text, {"dit"})] == ["train dit", "dit_head"]
