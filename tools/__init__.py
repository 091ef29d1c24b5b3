"""Tools for those who work on the project; no lesson needs them."""
