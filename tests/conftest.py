"""Settings of the whole test session."""

import torch

# Tiny models gain nothing from threads, and lose much where other work shares the cores.
torch.set_num_threads(1)
