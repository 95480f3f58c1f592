"""The code that makes the documentation site."""
