"""iBOT: self-distillation of class tokens, and of hidden patches with the teacher as their tokenizer."""

from ssl_zoo.methods.ibot.method import IBOT

__all__ = ["IBOT"]
