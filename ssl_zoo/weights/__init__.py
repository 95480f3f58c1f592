"""Opens, downloads and exports the weights of any checkpoint."""
