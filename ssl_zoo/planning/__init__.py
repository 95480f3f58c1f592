"""Plans a run for somebody's own images, from the data, the machine and a budget of time."""
