"""Which points a sweep has."""

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.runs.sweep import configs, points


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=0..2", [0, 1, 2]),
        ("seed=5", [5]),
        ("method=swav,simclr@digits", ["swav", "simclr@digits"]),
        ("optimizer.lr=0.1,1e-2", [0.1, "1e-2"]),
        ("augmentation.crops.0.scale=[0.1, 1],[0.2, 1]", [[0.1, 1], [0.2, 1]]),
        ("x=-2..-1", [-2, -1]),
        ("clip_norm=null,1", [None, 1]),
    ],
)
def test_values_are_read_as_yaml_and_spans_are_counted(text: str, values: list[object]) -> None:
    key = text.partition("=")[0]
    assert points([text]) == [{key: value} for value in values]


def test_several_sweeps_make_all_combinations() -> None:
    assert points(["method=a,b", "seed=0..1"]) == [
        {"method": "a", "seed": 0},
        {"method": "a", "seed": 1},
        {"method": "b", "seed": 0},
        {"method": "b", "seed": 1},
    ]


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["seed"], "'seed' is not a sweep; write KEY=A,B or KEY=FIRST..LAST"),
        (["seed="], "is not a sweep"),
        (["seed=3..1"], "'seed=3..1' runs backwards; write seed=1..3"),
        (["seed=0..99999"], "makes 100000 points"),
        (["seed=0..999", "epochs=1..11"], "makes 11000 points"),
        (["seed=0..1", "seed=2"], "has 'seed' twice"),
        (["seed=[1"], "not valid YAML"),
    ],
)
def test_what_is_no_sweep_is_refused(texts: list[str], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        points(texts)
    assert complaint in str(caught.value)


def test_a_point_is_a_run_with_its_values() -> None:
    runs = configs(None, ["method=swav,simclr", "seed=0..2"], overrides=["epochs=2"])
    assert [(run.method.name, run.seed, run.epochs) for run in runs] == [
        (method, seed, 2) for method in ("swav", "simclr") for seed in (0, 1, 2)
    ]


def test_values_that_are_no_text_keep_their_type() -> None:
    first, second = configs("swav", ["optimizer.lr=0.1,1e-2", "clip_norm=null"])
    assert (first.optimizer.lr, second.optimizer.lr) == (0.1, 0.01)  # type: ignore[attr-defined]
    assert first.clip_norm is None


@pytest.mark.parametrize(
    ("method", "texts", "complaint"),
    [
        ("swav", ["method=simclr"], "the method is 'swav' and --sweep sets others"),
        (None, ["seed=0..1"], "name a method"),
        ("swav", ["seeds=0..1"], "unknown key 'seeds'. Did you mean 'seed'?"),
        ("swav", ["seed=1,1"], "the same run twice"),
        ("swav", ["num_workers=0,1"], "the same run twice"),  # does not change what is learnt
    ],
)
def test_points_that_are_no_runs_are_refused(
    method: str | None, texts: list[str], complaint: str
) -> None:
    with pytest.raises(UserError) as caught:
        configs(method, texts)
    assert complaint in str(caught.value)
