"""The decoder's layers as compiled code while they train: one kernel where eager runs a dozen small operations.

On two cores with bf16 tiles a third more nodes a second (docs/performance.md has the figures); the first steps take
half a minute longer. Needs a C++ compiler. Parameters, their names and what is computed stay what they are.
"""

import shutil

from transformers import PreTrainedModel

from model.decoder import layers_of


def can_compile() -> bool:
    """Whether there is a C++ compiler."""
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))


def compile_layers(model: PreTrainedModel) -> None:
    """Compile each layer in place, for any batch size and length: the layers share their code."""
    for layer in layers_of(model):
        layer.compile(dynamic=True)


def interpret_layers(model: PreTrainedModel) -> None:
    """Back to plain modules: what serves or is saved has nothing compiled in it."""
    for layer in layers_of(model):
        layer._compiled_call_impl = None
