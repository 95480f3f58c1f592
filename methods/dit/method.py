"""DiT (Li et al., 2022, "DiT: self-supervised pre-training for document image transformer",
arXiv:2203.02378), after its text and the facts of microsoft/unilm, dit/ (commit 768a3c8), which has no code
for pretraining."""

from typing import ClassVar, Literal

from ssl_zoo.masked_codes import MaskedCodePrediction
from ssl_zoo.method import METHODS


@METHODS.register
class DiT(MaskedCodePrediction):
    """Predicts the codes of hidden patches of a page; tokenizer and network learn from documents alone."""

    paper: ClassVar[str] = "Li et al., ACM Multimedia 2022, arXiv:2203.02378"

    class Config(MaskedCodePrediction.Config):
        """Settings of DiT, which differ from BEiT's in the recipe: absolute positions, and pages."""

        name: Literal["dit"] = "dit"
