"""BEiT (Bao et al., 2022, "BEiT: BERT pre-training of image transformers", arXiv:2106.08254), after its text
and the facts of microsoft/unilm, beit/ (commit 768a3c8)."""

from typing import ClassVar, Literal

from ssl_zoo.masked_codes import MaskedCodePrediction
from ssl_zoo.method import METHODS


@METHODS.register
class BEiT(MaskedCodePrediction):
    """Predicts the codes of hidden patches of an image, which a frozen tokenizer gives the whole image."""

    paper: ClassVar[str] = "Bao et al., ICLR 2022, arXiv:2106.08254"

    class Config(MaskedCodePrediction.Config):
        """Settings of BEiT."""

        name: Literal["beit"] = "beit"
