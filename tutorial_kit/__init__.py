"""Plumbing that no lesson is about: settings, devices, data, checkpoints, plots, results.

The mathematics lives in the family packages (gpt, ...). This package imports none of them, and
importing it does not import torch, so that the menu appears at once.
"""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds README.md, whatever the working directory is."""

__version__ = "0.1.0"
