"""Plans of runs on somebody's own images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS
from ssl_zoo.planning import plan as module
from ssl_zoo.planning.machine import Machine
from ssl_zoo.planning.plan import plan_run
from ssl_zoo.planning.rehearsal import Pace, rehearse
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.training.train import train
from tests.data import folders

SMALL = ("backbone=tiny_resnet", "backbone.widths=[8,16]", "augmentation.crops.0.size=16")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Forty images of two classes, with shorter sides of 20 pixels."""
    for number in range(40):
        folders.write(tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png", number)
    return str(tmp_path / "photos")


@pytest.fixture
def half_a_second_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "rehearse", lambda config: Pace(start=10, step=0.5, n_steps=6))


def step_of(fp32: float, bf16: float) -> Callable[[RunConfig], Pace]:
    return lambda config: Pace(10, bf16 if config.precision == "bf16" else fp32, 6)


@pytest.mark.parametrize(
    ("bf16", "known", "overrides", "expected"),
    [
        (0.3, True, (), ("bf16", 0.3)),
        (0.45, True, (), ("fp32", 0.5)),
        (0.3, False, (), ("fp32", 0.5)),
        (0.3, True, ("precision=fp32",), ("fp32", 0.5)),
    ],
    ids=["faster", "hardly faster", "not known to the processor", "set by the user"],
)
def test_a_cpu_computes_in_bf16_if_steps_are_faster(
    bf16: float,
    known: bool,
    overrides: tuple[str, ...],
    expected: tuple[str, float],
    photos: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "rehearse", step_of(0.5, bf16))
    monkeypatch.setattr(module, "this_machine", lambda: Machine(2, 24, cpu_has_bf16=known))
    found = plan_run(photos, "simclr", budget="10min", overrides=overrides)
    assert found.pace is not None
    assert (found.config.precision, found.pace.step) == expected


def test_a_plan_reads_back_as_the_run_it_describes(photos: str, tmp_path: Path) -> None:
    found = plan_run(photos, "simclr", budget=None)
    (tmp_path / "plan.yaml").write_text(found.text())
    assert run_config(file=tmp_path / "plan.yaml") == found.config


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].trains])
def test_every_method_can_be_planned(method: str, photos: str) -> None:
    config = plan_run(photos, method, budget=None).config
    assert (config.image_size, config.global_batch_size) == (16, 4)


def test_each_choice_has_its_reason_above_the_setting(photos: str) -> None:
    lines = plan_run(photos, "simclr", budget=None).text().splitlines()
    assert lines[lines.index("global_batch_size: 4") - 1].startswith("# at least 8 steps an epoch")


@pytest.mark.usefixtures("half_a_second_a_step")
def test_the_epochs_fit_the_budget(photos: str) -> None:
    """32 training images are 8 steps of 4: 4 s an epoch, and a score takes a sixth of that."""
    found = plan_run(photos, "simclr", budget="10min")
    seconds_left = 0.8 * 600 - 10 - 11 * 4 / 6  # the untrained network is scored, too
    assert found.config.epochs == int(seconds_left / 4)
    assert found.seconds is not None
    assert found.seconds <= 600
    assert str(found.config.evaluation.every) == "12 epochs"


@pytest.mark.usefixtures("half_a_second_a_step")
def test_a_budget_too_small_to_beat_raw_pixels_is_said_in_one_line(
    photos: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = plan_run(photos, "simclr", budget="10min")
    assert caplog.messages[-1] == found.caution
    assert f"{found.config.epochs} epochs of 32 images" in found.caution
    assert f"# Caution: {found.caution}." in found.text().splitlines()
    caplog.clear()
    enough = plan_run(photos, "simclr", budget="10min", overrides=["epochs=2500"])
    assert (enough.caution, "Caution" in enough.text()) == ("", False)
    assert plan_run(photos, "simclr", budget=None).caution == ""  # nothing was timed
    assert not [line for line in caplog.messages if "raw pixels" in line]


@pytest.mark.usefixtures("half_a_second_a_step")
def test_a_budget_below_an_epoch_is_refused(photos: str) -> None:
    with pytest.raises(
        UserError, match="an epoch takes about 4 s here .* budget of 15s allows less than 2"
    ):
        plan_run(photos, "simclr", budget="15s")


@pytest.mark.usefixtures("half_a_second_a_step")
def test_what_the_user_sets_stays(photos: str) -> None:
    given = ["epochs=7", "global_batch_size=8", "data.test=50%"]
    config = plan_run(photos, "simclr", budget="10min", overrides=given).config
    assert (config.epochs, config.global_batch_size) == (7, 8)
    assert config.data.model_dump()["test"] == "50%"


def test_the_number_of_prototypes_fits_the_batch(photos: str) -> None:
    config = plan_run(photos, "swav", budget=None, overrides=["global_batch_size=16"]).config
    assert config.method.model_dump()["n_prototypes"] == [10]


def test_a_small_plan_trains(photos: str, tmp_path: Path) -> None:
    found = plan_run(
        photos, "simclr", budget=None, overrides=[*SMALL, "epochs=1", "schedule.warmup=0"]
    )
    assert (train(found.config, tmp_path / "run") / "complete.json").is_file()


def test_a_rehearsal_takes_real_steps(photos: str, tmp_path: Path) -> None:
    config = plan_run(photos, "simclr", budget=None, overrides=SMALL).config
    pace = rehearse(config, steps=2)
    assert pace.n_steps == 2
    assert pace.start > pace.step > 0


@pytest.mark.parametrize(
    ("data", "method", "message"),
    [
        ("nothing", "simclr", "unknown dataset 'nothing'"),
        (None, "simclr@photos", "names a recipe, but a plan makes its own settings"),
        (None, "simklr", "unknown method 'simklr'"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    data: str | None, method: str, message: str, photos: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan_run(data or photos, method, budget=None)


def test_images_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    for number in range(16):
        folders.write(tmp_path / f"{number}.png", number)
        folders.damage(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match="none of 16 images can be read, such as"):
        plan_run(str(tmp_path), "simclr", budget=None)


def test_images_of_four_channels_are_planned_for(tmp_path: Path) -> None:
    for number in range(16):
        values = np.random.default_rng(number).integers(0, 65536, (20, 24, 4), dtype=np.uint16)
        np.save(tmp_path / f"{number}.npy", values)
    config = plan_run(str(tmp_path), "simclr", budget=None).config.model_dump()
    assert (config["backbone"]["in_channels"], config["data"]["bits"]) == (4, 16)
    assert config["augmentation"]["color_jitter"]["hue"] == 0


def test_images_without_labels_are_watched_by_their_health(tmp_path: Path) -> None:
    for number in range(16):
        folders.write(tmp_path / f"{number}.png", number)
    config = plan_run(str(tmp_path), "simclr", budget=None).config
    assert [each.name for each in config.evaluation.evaluators] == ["health"]


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    folders.write(tmp_path / "a.png", 0)
    with pytest.raises(UserError, match="1 images are too few"):
        plan_run(str(tmp_path), "simclr", budget=None)
