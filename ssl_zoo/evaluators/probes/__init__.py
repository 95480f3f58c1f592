"""Classifiers that are trained on frozen features, and fine-tuning."""
