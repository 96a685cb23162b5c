"""Opening a pretrained decoder: a Hugging Face directory as any hub download is, with our tokens added.

    tokenizer.json   + number, target and structure tokens at the end, in their order (numbers stay contiguous)
    weights          + a row per new token, starting as the mean of the pieces its bare name is written with
    config.json      sliding-window layers attend to everything

Local files, safetensors, no remote code. A checkpoint of our own is a base like any other: it has the tokens already.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from model.errors import CheckpointError
from model.numbers import NumberCode
from model.prompt import special_tokens
from model.targets import Target

#: Architectures whose attention was checked to follow the tree mask (tests/model/test_finetune.py).
ARCHITECTURES = ("qwen3", "gemma3_text", "llama")
#: Spread of a new row around its start, in standard deviations of the rows that were there.
_NOISE = 0.1
_FULL, _SLIDING = "full_attention", "sliding_attention"


def open_base(
    directory: Path,
    targets: Sequence[Target],
    code: NumberCode,
    dtype: torch.dtype = torch.float32,
    *,
    keep_rotations: bool = False,
) -> tuple[PreTrainedModel, Tokenizer]:
    """The decoder of a directory and its tokenizer, both knowing the special tokens of these targets and this code.

    keep_rotations: see `attend_everywhere`. Draws from torch's global generator. Raises CheckpointError.
    """
    tokenizer = base_tokenizer(directory, targets, code)
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"no readable config.json in the base directory: {error}") from error
    if config.model_type not in ARCHITECTURES:
        raise CheckpointError(f"a base of type {config.model_type}; known are {', '.join(ARCHITECTURES)}")
    if not any(directory.glob("*.safetensors")):
        raise CheckpointError("no *.safetensors in the base directory (other weight formats can run code)")
    attend_everywhere(config, keep_rotations=keep_rotations)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        directory,
        config=config,
        dtype=dtype,
        attn_implementation="sdpa",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    _add_rows(model, _plain_tokenizer(directory), tokenizer, special_tokens(targets, code))
    return model, tokenizer


def base_tokenizer(directory: Path, targets: Sequence[Target], code: NumberCode) -> Tokenizer:
    """The directory's tokenizer.json with what it lacks of the special tokens at the end, in their order.

    Raises CheckpointError where there is none, where plain text could spell one of the tokens, or where the number
    tokens would not be contiguous.
    """
    tokenizer = _plain_tokenizer(directory)
    special = special_tokens(targets, code)
    kept_from_text = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for token in special:
        if tokenizer.token_to_id(token) is not None and token not in kept_from_text:
            raise CheckpointError(f"the base's tokenizer has {token} as an ordinary piece of text")
    tokenizer.add_special_tokens(special)
    numbers = {_id(tokenizer, t) for place in range(code.length) for t in code.alphabet(place)}
    if max(numbers) - min(numbers) + 1 != len(numbers):
        raise CheckpointError(
            "the base's tokenizer has some of the number tokens, but not all of them in one run"
        )
    return tokenizer


def attend_everywhere(config: PretrainedConfig, *, keep_rotations: bool = False) -> None:
    """Turn sliding-window layers into full attention, in place, before the model is built.

    Gemma 3 rotates positions of its sliding layers with a base of their own (10,000 instead of 1,000,000). As full
    layers they get that of the full layers: the network's function changes and training has to mend it. With
    keep_rotations they stay what they are and their window becomes as wide as the model's longest context instead.
    """
    if getattr(config, "use_sliding_window", None):
        config.use_sliding_window = False
    kinds = getattr(config, "layer_types", None) or []
    if _SLIDING not in kinds:
        return
    if keep_rotations:
        config.sliding_window = config.max_position_embeddings
        return
    config.layer_types = [_FULL] * len(kinds)
    config.sliding_window = config.max_position_embeddings  # nothing reads it; None would not load everywhere


def _id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert found is not None, token
    return int(found)


def _plain_tokenizer(directory: Path) -> Tokenizer:
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            "no tokenizer.json in the base directory: a base needs the fast tokenizer's file (save_pretrained of "
            "transformers' AutoTokenizer writes it)"
        )
    tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@torch.no_grad()
def _add_rows(model: PreTrainedModel, plain: Tokenizer, extended: Tokenizer, special: Sequence[str]) -> None:
    """Grow the embeddings to the tokenizer's size, padded to a multiple of 64, and set the new tokens' rows."""
    new = [token for token in special if plain.token_to_id(token) is None]
    known = int(plain.get_vocab_size())
    needed = max(int(extended.get_vocab_size()), max(_id(extended, token) for token in special) + 1)
    if needed > model.config.vocab_size:
        model.resize_token_embeddings(-(-needed // 64) * 64, mean_resizing=False)
    for matrix in _embeddings(model):
        trained = matrix[:known]
        middle, spread = trained.mean(0), trained.std(0)
        for token in new:
            pieces = plain.encode(token.strip("<>"), add_special_tokens=False).ids
            start = trained[pieces].mean(0) if pieces else middle
            matrix[_id(extended, token)] = start + _NOISE * spread * torch.randn_like(start)


def _embeddings(model: PreTrainedModel) -> Sequence[torch.Tensor]:
    """The input embeddings, and the output's where they are not the same."""
    read = model.get_input_embeddings().get_parameter("weight")
    written: torch.Tensor = model.get_output_embeddings().get_parameter("weight")  # type: ignore[no-untyped-call]
    return [read] if written is read else [read, written]
