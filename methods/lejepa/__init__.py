"""LeJEPA: embeddings of views agree, and their distribution is a standard Gaussian."""

from ssl_zoo.methods.lejepa.loss import random_directions, sigreg
from ssl_zoo.methods.lejepa.method import LeJEPA

__all__ = ["LeJEPA", "random_directions", "sigreg"]
