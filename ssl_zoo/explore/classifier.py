"""`ImageClassifier`: a network with a linear layer and the names of classes, as saved in a folder.

FOLDER/classifier.json        names of classes, preprocessing, accuracy, and how it was trained
       backbone.safetensors   the network, in the format of `ssl-zoo export`
       head.safetensors       `weight` (K, D) and `bias` (K,)
       classifier.onnx        both in one graph
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.augmentations.evaluation import EvaluationTransform, Interpolation
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.records import Document, Record
from ssl_zoo.evaluation.result import Fingerprint
from ssl_zoo.explore.folder import FolderKind
from ssl_zoo.formats.reading import read_safetensors
from ssl_zoo.runs.tensor_files import save_tensors
from ssl_zoo.weights.export import write_onnx
from ssl_zoo.weights.open import Opened, export, open_checkpoint

FACTS = "classifier.json"
BACKBONE = "backbone.safetensors"
HEAD = "head.safetensors"
GRAPH = "classifier.onnx"
CLASSIFIERS = FolderKind("classifiers", FACTS, frozenset({FACTS, BACKBONE, HEAD, GRAPH}))


class Preprocessing(Record):
    """How an image is turned into the input of the network."""

    image_size: int
    """Height and width of the centre crop, in pixels."""
    resize: int
    """Shorter side before the crop, in pixels."""
    interpolation: Interpolation
    """How images are resized, with antialiasing; images that have the size of the crop are not."""
    mean: tuple[float, ...]
    """Subtracted from each channel, for values in [0, 1]."""
    std: tuple[float, ...]
    """Each channel is then divided by it."""

    def transform(self) -> EvaluationTransform:
        """Returns the transform of images."""
        return EvaluationTransform(**self.model_dump())


class ClassifierFacts(Document):
    """What a classifier knows, how good it is, and how it was made."""

    VERSION: ClassVar[int] = 1
    WRITTEN_BY: ClassVar[str] = "ssl-zoo classify CHECKPOINT -o FOLDER"

    schema_version: int = Field(default=1, ge=1)
    """Version of these fields."""
    class_names: tuple[str, ...]
    """Name of each class, in the order of the scores."""
    preprocessing: Preprocessing
    """How an image is turned into the input of the network."""
    unit_features: bool = False
    """Whether features are scaled to length sqrt(D) before the linear layer."""
    scores: dict[str, float]
    """Accuracies on the test split, in percent."""
    intervals: dict[str, tuple[float, float]]
    """Their 95 % confidence intervals over test images."""
    n_train: int
    """Number of train images that could be read."""
    n_test: int
    """Number of test images that could be read."""
    n_test_in_train: int | None = None
    """Number of test images that are also train images; None if not counted."""
    training: dict[str, Any]
    """How it was trained: the protocol with all settings."""
    checkpoint: str
    """Checkpoint that it was made from."""
    weights: str
    """Digest of that checkpoint's weights."""
    data: dict[str, Any]
    """Settings of the data set."""
    fingerprint: Fingerprint
    """Digests of the contents of its splits."""
    seed: int
    """Seed of the training."""
    seconds: float = 0.0
    """Duration, in seconds."""
    date: str = ""
    """When it was finished, in UTC."""
    provenance: dict[str, str] = {}
    """Versions of the software, and the hardware."""


class ImageClassifier(nn.Module):
    """Maps normalised images `(N, 3, S, S)` to scores of classes `(N, K)`.

    `classifier(classifier.transform(image)[None]).argmax(1)` is the place of a Pillow image's class in
    `class_names`.

    Args:
        backbone: the network.
        head: linear layer on its features.
        facts: what it knows.
    """

    def __init__(self, backbone: Backbone, head: nn.Linear, facts: ClassifierFacts) -> None:
        super().__init__()
        self.backbone, self.head, self.facts = backbone, head, facts
        self.class_names = facts.class_names
        self.transform = facts.preprocessing.transform()

    def forward(self, images: Tensor) -> Tensor:
        """Returns scores of classes `(N, K)`."""
        features = self.backbone(images)
        if self.facts.unit_features:
            lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min(1e-30)
            features = features * (features.shape[1] ** 0.5 / lengths)
        scores: Tensor = self.head(features)
        return scores


def save_classifier(
    classifier: ImageClassifier, opened: Opened, folder: Path, *, onnx: bool
) -> None:
    """Writes a classifier to an empty folder.

    Args:
        opened: the checkpoint with the classifier's own backbone.
        onnx: whether to write a graph, too.

    Raises:
        UserError: the graph cannot be written.
    """
    export(opened, folder / BACKBONE)
    save_tensors(folder / HEAD, classifier.head)
    facts = classifier.facts
    if onnx:
        size = facts.preprocessing.image_size
        what = f"a classifier on backbone '{opened.facts.backbone_name}'"
        images = torch.zeros(2, len(facts.preprocessing.mean), size, size)
        told = {"ssl_zoo": facts.json_text()}
        write_onnx(classifier, images, folder / GRAPH, output="scores", what=what, metadata=told)
    facts.save(folder / FACTS)


def load_classifier(folder: str | Path) -> ImageClassifier:
    """Returns the classifier in a folder of `ssl-zoo classify`, in evaluation mode.

    Raises:
        UserError: the folder has no classifier, or it is damaged.
    """
    place = Path(folder)
    facts = ClassifierFacts.load(place / FACTS)
    backbone = open_checkpoint(place / BACKBONE).backbone
    found = read_safetensors(str(place / HEAD), place / HEAD)
    head = nn.Linear(backbone.feature_dim, len(facts.class_names))
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    if shapes != expected:
        raise UserError(
            f"'{place / HEAD}' does not fit the network and its {len(facts.class_names)} classes; write the "
            "classifier again"
        )
    head.load_state_dict(found)
    return ImageClassifier(backbone, head, facts).eval()
