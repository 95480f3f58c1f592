"""SimSiam: predicting the embeddings of other views, without negatives and without a teacher."""

from ssl_zoo.methods.simsiam.method import SimSiam

__all__ = ["SimSiam"]
