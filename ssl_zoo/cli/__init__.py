"""The `ssl-zoo` command: one module for each group of commands."""
