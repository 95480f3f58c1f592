"""SimSiam: predicts the embeddings of other views, without negatives or a teacher."""

from ssl_zoo.methods.simsiam.method import SimSiam

__all__ = ["SimSiam"]
