"""Self-Classifier: views of an image get the same class, in a batch that uses all classes."""

from ssl_zoo.methods.self_classifier.loss import self_classification
from ssl_zoo.methods.self_classifier.method import SelfClassifier

__all__ = ["SelfClassifier", "self_classification"]
