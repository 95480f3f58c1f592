"""Tests for methods outside this repository: `check_method(NAME)`."""

from ssl_zoo.testing.contract import check_method

__all__ = ["check_method"]
