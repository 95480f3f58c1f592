"""Names of scores in settings: direction, and what is refused."""

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.score_goal import ScoreGoal


def config(*overrides: str) -> RunConfig:
    return run_config("simclr", overrides=overrides)


@pytest.mark.parametrize(
    ("text", "lower"),
    [("knn/top1@k=20", False), ("max:knn/top1@k=20", False), ("min:knn/top1@k=20", True)],
)
def test_higher_is_better_unless_the_name_says_otherwise(text: str, lower: bool) -> None:
    assert ScoreGoal.model_validate(text) == ScoreGoal(name="knn/top1@k=20", lower=lower)


def test_a_goal_is_written_as_it_is_read() -> None:
    found = config("checkpoint.best=min:health/uniformity").model_dump(mode="json")
    assert found["checkpoint"]["best"] == "min:health/uniformity"


def test_improvement_is_in_the_direction_of_the_goal() -> None:
    higher, lower = (ScoreGoal.model_validate(text) for text in ("a/b", "min:a/b"))
    assert (higher.improves(2, 1), lower.improves(2, 1), lower.improves(1, 2)) == (
        True,
        False,
        True,
    )


def test_an_improvement_exceeds_the_margin() -> None:
    goal = ScoreGoal(name="a/b")
    assert not goal.improves(1.5, 1.0, by=0.5)
    assert goal.improves(1.6, 1.0, by=0.5)


def test_an_unknown_score_is_an_error_with_all_known_ones() -> None:
    with pytest.raises(UserError, match=r"no score 'a/c'. Did you mean 'a/b'\? Known: a/b, d/e"):
        ScoreGoal(name="a/c").check("checkpoint.best", ["d/e", "a/b"])


def test_text_that_is_no_score_is_an_error() -> None:
    with pytest.raises(UserError, match="checkpoint.best: 'top1' is not a score; write EVALUATOR"):
        config("checkpoint.best=top1")


def test_scores_that_are_never_measured_are_an_error() -> None:
    with pytest.raises(UserError, match="need scores during training; set evaluation.every"):
        config("checkpoint.best=knn/top1@k=20", "evaluation.every=0")


def test_the_best_checkpoint_does_not_define_the_run_but_its_end_does() -> None:
    plain = config().digest()
    assert config("checkpoint.best=knn/top1@k=20").digest() == plain
    assert config("stop_early={score: knn/top1@k=20}").digest() != plain
