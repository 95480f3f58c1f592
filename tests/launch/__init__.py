"""What jobs ask of SLURM, how they are submitted, and the code that they run."""
