"""What holds for any settings, overrides, recipes and results."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ssl_zoo.config import dump_yaml, parse_override, read_yaml, validate
from ssl_zoo.evaluation.outcomes import Outcomes
from ssl_zoo.evaluation.result import Result, read_results
from ssl_zoo.files import write_text
from ssl_zoo.method import METHODS
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.recipes import recipe_names
from tests.evaluation.results import small_result
from tests.faults.examples import examples, outcome

RECIPES = [f"{method}@{recipe}" for method in METHODS for recipe in recipe_names(method)]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *("seed", "epochs", "global_batch_size", "accumulate", "precision", "clip_norm"),
        *("sync_batch_norm", "channels_last", "num_workers", "log_every", "plugins"),
        *("method", "method.temperature", "method.head", "method.head.hidden_dims", "method.name"),
        *("backbone", "backbone.widths", "backbone.widths.0", "backbone.stem_stride"),
        *("data", "data.root", "data.mean", "data.std.1", "data.name"),
        *("augmentation.crops", "augmentation.crops.0", "augmentation.crops.0.scale.1"),
        *("augmentation.crops.0.size", "augmentation.crops.9.count", "augmentation.blur.sigma"),
        *("optimizer", "optimizer.lr", "schedule.warmup", "schedule.final_lr"),
        *("evaluation.every", "evaluation.evaluators", "evaluation.evaluators.0.k"),
        *("checkpoint", "checkpoint.every", "checkpoint.keep"),
        *("slurm", "slurm.setup", "slurm.comment", "slurm.additional_parameters.x"),
        *("", ".", "a.b", "seed.", ".seed", "seed.x", "no such key", "seed "),
    ]
)
TRICKY = st.sampled_from(
    [
        *("", "~", "null", "yes", "off", "=", "a=b", "1e3", "1_000", "0x1F", "0o17", "1:30"),
        *(".inf", "-.inf", ".nan", "1e400", "-0.0", "2024-01-31", "2024-99-99", "12:00:00Z"),
        *("[", "]", "{", "}", "[}", "{a", "{a: }", "- a", "a: b", "a: b: c", "? a", ": a"),
        *("&a [*a]", "*a", "&a", "<<: 3", "{<<: [3]}", "{[1]: 2}", "{{a: 1}: 2}", "[a, b]: c"),
        *("!!python/object:os.system", "!!python/name:os.system", "!!binary x", "!!int x", "!x y"),
        *("!!set {a}", "!!omap [a: 1]", "!!timestamp x", "!!float x", "!!bool 3", "!!null 3"),
        *(
            "'",
            '"',
            '"\\x"',
            '"\\ud800"',
            "|",
            ">",
            "|9",
            "%YAML 2",
            "--- a\n--- b",
            "# a",
            "a #b",
        ),
        *("\t", "\0", "\x1b[31m", "\ufeff", "\u2028", "\udcff", "é", "9" * 5000, "-" + "9" * 400),
        *("[" * 300, "{a: " * 300, "[" * 300 + "]" * 300, "1." * 300, "10 epochs", "-1 steps"),
        *(
            "1 epoch 2",
            "0.5 epochs",
            "nan epochs",
            "9" * 400 + " epochs",
            "{name: }",
            "{name: [1]}",
        ),
        *("{name: knn, k: []}", "knn:x", "timm:", "image_folder", "random_init", "pixels", "../x"),
    ]
)
VALUES = (
    TRICKY
    | WORDS
    | JSON.map(lambda value: json.dumps(value))
    | st.from_regex(r"[\[\]{},:!&*# a1-]*")
)
OVERRIDES = st.one_of(
    st.builds("{}={}".format, KEYS, VALUES),
    WORDS,
    st.builds("{}={}".format, WORDS, WORDS),
)


def valid_overrides() -> st.SearchStrategy[list[str]]:
    """Returns settings that fit every recipe, as overrides, in any order."""
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    each = {
        "seed": st.integers(0, 2**31 - 1),
        "num_workers": st.integers(0, 256),
        "log_every": st.integers(1),
        "clip_norm": st.none() | st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        "precision": st.sampled_from(["fp32", "bf16", "fp16"]),
        "sync_batch_norm": st.sampled_from(["off", "all", "node", 2, 8]),
        "channels_last": st.booleans(),
        "checkpoint.keep": st.integers(2),
        "checkpoint.every": st.builds(
            "{}{}".format, st.integers(1, 10**6), st.sampled_from([" steps", " epochs", "m"])
        ),
        "slurm.comment": text,
        "slurm.setup": st.lists(text, max_size=3),
        "slurm.additional_parameters": st.dictionaries(
            st.text("abcdefghij-", min_size=1, max_size=5), text | st.integers(), max_size=2
        ),
    }
    pairs = st.sampled_from(sorted(each)).flatmap(
        lambda key: each[key].map(lambda value: f"{key}={json.dumps(value)}")
    )
    return st.lists(pairs, max_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


@examples(150)
@given(recipe=st.sampled_from(RECIPES), overrides=valid_overrides())
def test_settings_read_back_as_they_were_written(
    recipe: str, overrides: list[str], folder: Path
) -> None:
    config = outcome(lambda: run_config(recipe, overrides=overrides))
    if config is None:  # such as a batch norm over groups that the method refuses
        return
    write_text(folder / "config.yaml", dump_yaml(config))
    again = validate(RunConfig, read_yaml(folder / "config.yaml"))
    assert again == config
    assert again.digest() == config.digest()


@examples(200)
@given(key=st.sampled_from(["seed", "method.temperature", "data.root"]), value=JSON)
def test_an_override_has_the_value_that_its_yaml_has(key: str, value: Any) -> None:
    # PyYAML itself reads a key of U+0085 as a space when it is not escaped.
    line = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    assert parse_override(f"{key}={line}") == (key, value)


@examples(400)
@given(overrides=st.lists(OVERRIDES, min_size=1, max_size=2))
def test_any_override_is_a_setting_or_a_clear_mistake(overrides: list[str]) -> None:
    config = outcome(lambda: run_config("simclr", overrides=overrides))
    if config is not None:
        assert validate(RunConfig, json.loads(config.model_dump_json())) == config


@examples(150)
@given(
    name=st.builds(
        "{}{}{}".format,
        st.sampled_from(["swav", "x", ""]) | WORDS,
        st.sampled_from(["@", ""]),
        WORDS,
    )
)
def test_any_recipe_is_there_or_a_clear_mistake(name: str) -> None:
    outcome(lambda: run_config(name))


@examples(150)
@given(text=st.text(max_size=60) | VALUES | JSON.map(lambda value: yaml.safe_dump(value)))
def test_any_config_file_is_settings_or_a_clear_mistake(text: str, folder: Path) -> None:
    file = folder / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    outcome(lambda: run_config(file=file))


def results() -> st.SearchStrategy[Result]:
    """Returns results with any scores, intervals, outcomes and texts."""
    outcomes = st.lists(st.booleans(), max_size=20) | st.lists(
        st.floats(width=32, allow_nan=False), max_size=20
    )
    scores = st.dictionaries(WORDS, FINITE, min_size=1, max_size=3)
    return st.builds(
        lambda checkpoint, scores, hits, details, n_test: small_result(
            checkpoint,
            test=n_test,
            scores=scores,
            headline=next(iter(scores)),
            intervals={name: (value, value) for name, value in scores.items()},
            outcomes={"hits": Outcomes.of(np.array(hits))} if hits else {},
            details=details,
        ),
        WORDS,
        scores,
        outcomes,
        st.dictionaries(WORDS, JSON, max_size=2),
        WORDS,
    )


@examples(200)
@given(result=results())
def test_a_result_reads_back_as_it_was_saved(result: Result, folder: Path) -> None:
    result.save(folder / "result.json")
    assert Result.load(folder / "result.json") == result
    (again,) = read_results(folder / "result.json")
    assert again == result


@examples(200)
@given(value=JSON, where=st.lists(st.integers(0, 30), max_size=4))
def test_any_json_is_a_result_or_a_clear_mistake(
    value: Any, where: list[int], folder: Path
) -> None:
    """Also one in whose middle something else stands."""
    file = folder / "any.json"
    file.write_text(json.dumps(replaced(small_result("a").model_dump(mode="json"), where, value)))
    outcome(lambda: [result.rows() for result in read_results(file)])


def replaced(tree: Any, where: list[int], value: Any) -> Any:
    """Returns a tree of dicts and lists with something else at one place."""
    if not where or not isinstance(tree, dict | list) or not tree:
        return value
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = keys[where[0] % len(keys)]
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[key] = replaced(tree[key], where[1:], value)
    return copy
