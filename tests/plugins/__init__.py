"""Plug-ins: found, listed, trained by name, and reported when they are broken."""
