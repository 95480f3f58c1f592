"""Submits, requeues and cancels runs as jobs on SLURM or on this machine."""
