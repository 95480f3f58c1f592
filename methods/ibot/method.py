"""iBOT (Zhou et al., 2022, "Image BERT pre-training with online tokenizer", arXiv:2111.07832), after its
text and the facts of bytedance/ibot (commit da316d8)."""

from typing import ClassVar, Literal

from ssl_zoo.heads.prototype_head import PrototypeHeadConfig
from ssl_zoo.masked_distillation import MaskedDistillation
from ssl_zoo.method import METHODS


@METHODS.register
class IBOT(MaskedDistillation):
    """Predicts a momentum teacher's output for other views, and for the patches hidden from the student."""

    paper: ClassVar[str] = "Zhou et al., ICLR 2022, arXiv:2111.07832"

    class Config(MaskedDistillation.Config):
        """Settings of iBOT; defaults are the paper's for ImageNet."""

        name: Literal["ibot"] = "ibot"
        head: PrototypeHeadConfig = PrototypeHeadConfig(n_prototypes=8192)
        """Head between class tokens and scores, of the student and of the teacher."""
