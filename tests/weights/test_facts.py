"""What is known of weights, as released files carry it."""

import pytest
from pydantic import ValidationError

from ssl_zoo.data.base import Normalisation
from ssl_zoo.weights.facts import WeightFacts


def test_only_what_is_known_is_written() -> None:
    facts = WeightFacts(backbone={"name": "tiny_resnet"}, step=3)
    assert facts.as_json() == {"backbone": {"name": "tiny_resnet"}, "step": 3}


def test_facts_come_back_from_json() -> None:
    seen = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    facts = WeightFacts(backbone={"name": "vit"}, format="dino", normalisation=seen)
    assert WeightFacts.model_validate(facts.as_json()) == facts


def test_fields_of_later_versions_are_ignored() -> None:
    known = {"backbone": {"name": "vit"}, "on_top": {"head": {}}, "licence": "MIT"}
    assert WeightFacts.model_validate(known).backbone_name == "vit"


def test_facts_of_another_type_are_refused() -> None:
    with pytest.raises(ValidationError, match="image_size"):
        WeightFacts.model_validate({"backbone": {"name": "vit"}, "image_size": "large"})


def test_settings_of_the_run_name_head_and_plug_in_files() -> None:
    config = {"method": {"name": "swav", "head": {"name": "mlp"}}, "plugins": [{"file": "a.py"}]}
    facts = WeightFacts(backbone={"name": "vit"}, config=config)
    assert (facts.head, facts.plugins) == ({"name": "mlp"}, [{"file": "a.py"}])
    assert WeightFacts(backbone={"name": "vit"}).head is None
