"""Exploration of images without labels: clusters as tables, centroids and contact sheets."""
