import pytest

from ssl_zoo.evaluators.protocols import DINO, INSTDISC, PROTOCOLS


def test_settings_are_those_of_the_papers_code() -> None:
    # facebookresearch/dino, eval_knn.py: --nb_knn and --temperature.
    assert (DINO.k, DINO.temperature, DINO.headline_k) == ((10, 20, 100, 200), 0.07, 20)
    # zhirongw/lemniscate.pytorch, cifar.py: kNN(..., 200, args.nce_t) with --nce-t 0.1.
    assert (INSTDISC.k, INSTDISC.temperature) == ((200,), 0.1)


def test_digests_differ_and_stay() -> None:
    digests = {name: protocol.digest() for name, protocol in PROTOCOLS.items()}
    # A change here makes all earlier results incomparable: raise `version` and mean it.
    assert digests == {"dino": "b2d96ce385bd", "instdisc": "6101134d83ba"}


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
