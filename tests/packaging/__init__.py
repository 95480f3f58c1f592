"""The package as users get it: wheel, source distribution, checkout, and light imports."""
