"""What is wrong with a machine or a run, each fault with its remedy."""
