"""Who belongs to which prototype: Sinkhorn codes, balanced assignment of a bank, spherical k-means."""
