"""Clusters of the images of any data set or folder, as tables, centroids and pictures."""
