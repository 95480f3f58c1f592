"""Classifiers trained on frozen features, and fine-tuning."""
