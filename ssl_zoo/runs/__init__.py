"""A run on disk: settings, folder, checkpoints, history and owner."""
