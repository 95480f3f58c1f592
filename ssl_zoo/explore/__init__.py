"""Images without labels: clusters as tables, centroids and pictures."""
