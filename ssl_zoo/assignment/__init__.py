"""Assignment of samples to prototypes: Sinkhorn codes, balanced assignment of a bank, spherical k-means."""
