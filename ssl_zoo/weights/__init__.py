"""Weights of any checkpoint: opened, fetched by name, exported."""
