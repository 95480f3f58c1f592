"""Runs as jobs: SLURM (or this machine) starts them, they save and requeue, and say how they are."""
