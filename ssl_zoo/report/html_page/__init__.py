"""The HTML page of `ssl-zoo report`: runs, comparisons and results in one file that needs no network."""
