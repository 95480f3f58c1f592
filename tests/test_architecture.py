"""Who imports whom, and who spells whose name; read from the source, nothing is imported."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ssl_zoo.evaluators.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parent.parent
PARTS = (
    "backbones",
    "heads",
    "losses",
    "augmentations",
    "data",
    "optim",
    "evaluators",
    "importers",
)
BASE = {
    "collapse",
    "config",
    "errors",
    "registry",
    "registries",
    "distributed",
    "schedule",
    "statistics",
}
SHARED = {"kmeans", "memory", "method", "run_config", "teacher"}
FOR_METHODS = {*PARTS, *BASE, *SHARED}
KNN_NAMES = set(PROTOCOLS)  # protocols bear the names of the methods that made them known
HEAVY = {"faiss", "fvcore", "scipy", "sklearn", "submitit", "timm", "torchvision"}
APART = {
    "ssl_zoo.backbones.torchvision_resnet"
}  # a module that is itself imported where it is used


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


def imports(tree: ast.AST, *, in_functions: bool = True, for_types: bool = True) -> Iterator[str]:
    """Yields the names of imported modules.

    Args:
        in_functions: whether imports count that happen when a function is called.
        for_types: whether imports count that only type checkers see.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and not in_functions:
            continue
        if is_for_type_checkers(node) and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)
        yield from imports(node, in_functions=in_functions, for_types=for_types)


def is_for_type_checkers(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def ours(path: Path) -> set[str]:
    """Returns the modules of this repository that a file imports, sooner or later."""
    return {name for name in imports(parse(path), for_types=False) if name in MODULES}


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
    return any(name.replace("_", "") in plain for name in names)


def test_only_the_plugin_finder_names_the_package_of_methods() -> None:
    naming = {
        module
        for module, path in CORE_MODULES.items()
        if any(text.startswith("ssl_zoo.methods") for _, text in words(parse(path)))
    }
    assert naming == {"ssl_zoo.plugins"}


def test_a_method_imports_parts_and_itself_alone() -> None:
    foreign = {
        (module, name)
        for module, path in METHOD_MODULES.items()
        for name in ours(path)
        if area(name) not in FOR_METHODS and folder_of(name) != folder_of(module)
    }
    assert foreign == set()


def folder_of(method_module: str) -> list[str]:
    """Returns `ssl_zoo.methods.NAME` in parts."""
    return method_module.split(".")[:3]


def test_a_part_imports_parts_and_the_base_alone() -> None:
    foreign = {
        (module, name)
        for module, path in CORE_MODULES.items()
        if area(module) in PARTS
        for name in ours(path)
        if area(name) not in {*PARTS, *BASE}
    }
    assert foreign == set()


def test_nothing_imports_the_command_line() -> None:
    importing = {name for name, path in MODULES.items() if "ssl_zoo.cli" in ours(path)}
    assert importing == {"ssl_zoo.__main__"}


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
    """Also those inside functions: a circle there only waits to be met."""
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
