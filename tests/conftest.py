"""Settings of the whole test session."""

import os

import torch
from hypothesis import settings

# Tiny models gain nothing from threads, and lose much where other work shares the cores.
torch.set_num_threads(1)

# CI judges a change, so it draws the same examples every time; everyone else's runs go on searching.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "search")
