from typing import Any

import numpy as np
import pytest

from ssl_zoo.evaluators.knn.protocols import DINO, INSTDISC, PROTOCOLS


def test_settings_are_those_of_the_papers_code() -> None:
    # facebookresearch/dino, eval_knn.py: --nb_knn and --temperature.
    assert (DINO.k, DINO.temperature, DINO.headline_k) == ((10, 20, 100, 200), 0.07, 20)
    # zhirongw/lemniscate.pytorch, cifar.py: kNN(..., 200, args.nce_t) with --nce-t 0.1.
    assert (INSTDISC.k, INSTDISC.temperature) == ((200,), 0.1)


def test_digests_differ_and_stay() -> None:
    digests = {name: protocol.digest() for name, protocol in PROTOCOLS.items()}
    # A change here makes all earlier results incomparable: raise `version` and mean it.
    assert digests == {
        "dino": "b2d96ce385bd",
        "dinov2": "7601f9753c4a",
        "instdisc": "6101134d83ba",
        "solo": "438a686cb99a",
        "vissl": "0b8f6af7dd40",
        "spt": "a269602778c2",
        "nearest": "7c5429ab2536",
    }


def test_an_override_is_called_custom_and_has_its_own_digest() -> None:
    custom = DINO.override(temperature=0.1)
    assert custom.name == "custom"
    assert custom.digest() != DINO.digest()


def test_an_override_that_changes_nothing_keeps_the_name() -> None:
    assert DINO.override(k=(200, 100, 20, 10), temperature=0.07) == DINO


def test_equal_overrides_of_different_protocols_are_equal() -> None:
    a = DINO.override(k=(5,), temperature=0.2)
    assert a.digest() == INSTDISC.override(k=(5,), temperature=0.2).digest()


@pytest.mark.parametrize(("k", "headline"), [((5, 50), 5), ((20, 200), 20), ((100,), 100)])
def test_the_headline_stays_near_the_protocols(k: tuple[int, ...], headline: int) -> None:
    assert DINO.override(k=k).headline_k == headline


def test_another_metric_has_a_vote_that_suits_it() -> None:
    changed = DINO.override(metric="euclidean")
    assert (changed.name, changed.normalise) == ("custom", "l2")
    assert changed.weight == "exp(-distance / temperature)"


def test_normalised_dot_products_are_cosines() -> None:
    changed = PROTOCOLS["vissl"].override(normalise="l2")
    assert (changed.metric, changed.weight) == ("cosine", "exp(cosine / temperature)")
    assert DINO.override(normalise="none").metric == "dot"


def test_settings_that_came_later_do_not_touch_digests() -> None:
    assert set(DINO.describe()) == {
        "name", "version", "normalise", "weight", "k", "temperature", "headline_k", "digest",
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"index": "ivf"}, {"shots": 5, "n_draws": 3}, {"k": (20,)}])
def test_whatever_changes_scores_changes_the_digest(change: dict[str, Any]) -> None:
    assert DINO.override(**change).digest() != DINO.digest()


def test_the_softmax_of_dinov2_ranks_classes_as_dino_does() -> None:
    """Its votes are those of the softmax over the largest k, up to the factor of each row."""
    cosines = np.array([[0.9, 0.7, 0.2], [0.1, 0.05, -0.3]], dtype=np.float32)
    softmax = np.exp(cosines.astype(np.float64) / 0.07)
    softmax /= softmax.sum(axis=1, keepdims=True)
    votes = PROTOCOLS["dinov2"].weigh(cosines, 0.07)
    np.testing.assert_allclose(votes / votes.sum(axis=1, keepdims=True), softmax, rtol=1e-12)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_absent_neighbours_have_no_vote(name: str) -> None:
    protocol = PROTOCOLS[name]
    votes = protocol.weigh(np.array([[-0.5, -np.inf]], np.float32), protocol.temperatures[0])
    assert votes[0, 0] > 0
    assert votes[0, 1] == 0
