"""Low-rank adaptation: the projections of attention and MLP learn a small update each, the new tokens their rows.

Embeddings stay tied where they were: only the rows of the special tokens are trained (peft's trainable token indices),
in one copy for input and output. `merge_lora` leaves a plain decoder, which vLLM loads like any other.
"""

from collections.abc import Sequence

from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from transformers import PreTrainedModel

_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def add_lora(model: PreTrainedModel, rank: int, token_ids: Sequence[int]) -> PreTrainedModel:
    """The same decoder, in place, with adapters of a rank; all but them and the rows of token_ids is frozen."""
    rows = {"embed_tokens": sorted(token_ids)}
    if not model.config.tie_word_embeddings:
        rows["lm_head"] = sorted(token_ids)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=_PROJECTIONS,
        trainable_token_indices=rows,
        task_type="CAUSAL_LM",
    )
    get_peft_model(model, config)  # puts the adapters into the model itself
    return model


def merge_lora(model: PreTrainedModel) -> PreTrainedModel:
    """Fold the adapters into the weights and take them off, in place; a decoder without any is left as it is."""
    inside: tuple[str, ...] = ()
    for name, module in list(model.named_modules()):
        if not isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) or name.startswith(inside):
            continue
        inside = (*inside, f"{name}.")
        parent = model.get_submodule(name.rpartition(".")[0])
        if isinstance(module, AuxiliaryTrainingWrapper):
            plain = module.unload_and_optionally_merge_module(
                merge=True, safe_merge=False, adapter_names=None
            )
        else:
            module.merge()
            plain = module.get_base_layer()
        setattr(parent, name.rpartition(".")[2], plain)
    model.tie_weights()
    model.requires_grad_(True)
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model
