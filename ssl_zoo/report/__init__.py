"""Human-readable results: tables and model cards."""
