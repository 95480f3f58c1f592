"""What a comparison on images without labels can say, and what it cannot."""

from collections.abc import Mapping

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Evaluator


def check_unlabelled(evaluators: Mapping[str, Evaluator]) -> None:
    """Checks that evaluators need no labels.

    Raises:
        UserError: one does; the message says what can be compared.
    """
    wanting = [name for name, one in evaluators.items() if one.labelled]
    if wanting:
        needs = "needs" if len(wanting) == 1 else "need"
        raise UserError(
            f"the images have no labels, but {' and '.join(wanting)} {needs} labels to say which method is "
            "better; label a few images of each class (data.labels=labels.csv), or use --evaluators health "
            "alone, which only shows whether features have collapsed"
        )
