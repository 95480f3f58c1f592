"""Contenders of a comparison: methods, recipes, YAML files of runs, and trained runs."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ssl_zoo.comparison.ranking import COMPARISON_FILE
from ssl_zoo.config import closest
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.places import point_folder

_FOR_ONE = re.compile(r"([^=]+):([A-Za-z_]\w*(?:\.\w+)*=.*)", re.DOTALL)


@dataclass(frozen=True)
class Contender:
    """One row of a comparison.

    Attributes:
        name: name as given by the user.
        configs: its runs, one per seed.
        folder: folder of its only run if it was trained before; None for runs of the comparison.
    """

    name: str
    configs: list[RunConfig]
    folder: Path | None = None

    def run_folder(self, config: RunConfig, parent: Path) -> RunFolder:
        """Returns the folder of a run.

        Args:
            config: settings of the run.
            parent: folder of the comparison.
        """
        return RunFolder(self.folder or point_folder(parent, config))


def contenders(
    names: Sequence[str],
    *,
    recipe: str | None = None,
    seeds: int,
    overrides: Iterable[str],
    planned: Callable[[str, list[str]], RunConfig] | None = None,
) -> list[Contender]:
    """Returns the contenders in the given order; duplicates are dropped.

    Args:
        names: `swav`, `swav@cifar10`, a YAML file of a run, or a run folder.
        recipe: recipe of methods that are given without one; if None, `digits`, or `photos` for data at
            a path.
        seeds: number of runs of each, with seeds 0, 1, ...; a run folder is a single run.
        overrides: settings for all runs, `epochs=20`, or for the runs of one contender,
            `swav:epochs=20`.
        planned: returns the settings of a contender that is not trained yet, from its name and overrides,
            instead of those of its recipe or file.

    Raises:
        UserError: a setting, name or file is unknown or invalid.
    """
    if not names:
        raise UserError("nothing to compare; give a method, a YAML file or a run folder")
    for_all, for_one = split_overrides(names, overrides)
    found = []
    for name in dict.fromkeys(names):
        texts = [*for_all, *for_one[name]]
        if (Path(name) / COMPARISON_FILE).is_file():
            raise UserError(f"'{name}' is a comparison; give it alone, or the runs in it")
        if is_trained_run(name):
            found.append(_trained(name, seeds, texts))
            continue
        read = planned or partial(settings_of, recipe=recipe)
        configs = [read(name, [*texts, f"seed={seed}"]) for seed in range(seeds)]
        found.append(Contender(name, configs))
    return found


def split_overrides(
    names: Sequence[str], overrides: Iterable[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the overrides for all contenders, and those for each alone.

    Raises:
        UserError: an override is for an unknown contender.
    """
    for_all: list[str] = []
    for_one: dict[str, list[str]] = {name: [] for name in names}
    for text in overrides:
        match = _FOR_ONE.fullmatch(text)
        if match is None:
            for_all.append(text)
        elif match[1] in for_one:
            for_one[match[1]].append(match[2])
        else:
            raise UserError(
                f"'{text}' is for '{match[1]}', which is not compared.{closest(match[1], names)} "
                f"Compared are: {', '.join(for_one)}"
            )
    return for_all, for_one


def is_for_one(text: str) -> bool:
    """Returns whether an argument has the form `NAME:KEY=VALUE`, a setting for one contender."""
    return _FOR_ONE.fullmatch(text) is not None and not Path(text).exists()


def is_trained_run(name: str) -> bool:
    """Returns whether a contender is the folder of a run, which is not trained again."""
    return (Path(name) / "config.yaml").is_file()


def settings_of(name: str, overrides: list[str], *, recipe: str | None) -> RunConfig:
    """Returns the settings of a contender that is a method, a recipe or a YAML file.

    Raises:
        UserError: a setting, name or file is unknown or invalid.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return run_config(file=name, overrides=overrides)
    if "/" in name and name.partition("@")[0] not in METHODS:
        raise UserError(
            f"there is no run '{name}', which may have been moved or removed; give a method, a YAML file or "
            "the folder of a trained run"
        )
    whole = f"{name}@{recipe}" if recipe and "@" not in name else name
    return run_config(whole, overrides=overrides)


def _trained(name: str, seeds: int, overrides: list[str]) -> Contender:
    run = RunFolder(name)
    if not run.is_complete:
        raise UserError(f"run '{name}' is not finished; finish training it first")
    if seeds > 1:
        raise UserError(
            f"'{name}' is a run with one seed; compare its config.yaml over {seeds} seeds"
        )
    if overrides:
        raise UserError(
            f"'{name}' is already trained, so {overrides[0]} cannot change it; write "
            "NAME:KEY=VALUE for one of the others"
        )
    return Contender(name, [run.config()], run.path)
