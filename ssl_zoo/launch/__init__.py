"""Runs as jobs of SLURM or of this machine: submitted, requeued, cancelled."""
