"""A plug-in whose requirements are missing."""

raise ImportError("needs a quantum computer, and this machine has none")
