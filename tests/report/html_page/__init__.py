"""Tests of the page of `ssl-zoo report`."""
