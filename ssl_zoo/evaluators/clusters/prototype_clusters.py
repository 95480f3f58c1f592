"""A method's own prototypes as clusters, compared with classes."""

from typing import ClassVar, Literal

import numpy as np

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import EVALUATORS, Evaluator, Features, Scores
from ssl_zoo.evaluators.checks import check_features, check_labels
from ssl_zoo.evaluators.clusters.clustering import agreement
from ssl_zoo.evaluators.clusters.cohesion import balance, cluster_sizes
from ssl_zoo.evaluators.scoring import described

VERSION = 1
"""Version of the rules below, increased when a change affects scores."""


@EVALUATORS.register
class PrototypeClusters(Evaluator):
    """Agreement between classes and a method's own prototypes; an image belongs to its best prototype.

    Scores in percent: `nmi`, `ami`, `ari`, `purity`, `accuracy` with as many prototypes as
    classes, and `balance`, all as in `clustering`; and `used`, the fraction of prototypes with at
    least one image. Only the first of several sets of prototypes is used. Prototypes are available
    in runs of methods that have them, in files exported from such runs, and in official
    checkpoints. `nmi` and `purity` grow with the number of prototypes: compare them at equal
    numbers.
    """

    layer: ClassVar[str] = "prototypes"

    class Config(NamedConfig):
        """Settings of prototypes as clusters."""

        name: Literal["prototypes"] = "prototypes"

    config: Config
    labelled = ("test",)

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the agreement between classes and prototypes of `test`, whose features are scores.

        Raises:
            UserError: scores are empty or not finite; test labels are missing, negative or all the
                same.
        """
        check_features("prototypes", train=train, test=test)
        _, classes = np.unique(check_labels("prototypes", "test", test), return_inverse=True)
        n_prototypes = test.values.shape[1]
        if n_prototypes < 2:
            raise UserError(
                "one prototype cannot be compared with classes; score a method with 2 or more"
            )
        clusters = test.values.argmax(axis=1)
        sizes = cluster_sizes(clusters, n_prototypes)
        protocol = described("prototypes", {"name": "largest-score", "version": VERSION})
        return Scores(
            values={
                **agreement(classes, clusters, n_clusters=n_prototypes),
                "balance": 100 * balance(sizes),
                "used": 100 * float((sizes > 0).mean()),
            },
            intervals={},
            protocol={**protocol, "n_clusters": n_prototypes},
            headline="nmi",
            details={"sizes": np.sort(sizes)[::-1].tolist()},
        )
