"""Plumbing that no lesson is about: settings, devices, data, checkpoints, plots, results.

The mathematics lives in the family packages (gpt, ...). This package imports none of them, and
importing it does not import torch, so that the menu appears at once.
"""

import os
from pathlib import Path

# How often a thread of torch (GNU OpenMP) looks for its next piece of work before it goes to sleep.
# Its own choice is some hundred thousand times: while another program holds a core, the threads of
# a small model then wait for each other most of the time. The price is a few percent on an idle
# machine. Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

PROJECT_ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds README.md, whatever the working directory is."""

__version__ = "0.1.0"
