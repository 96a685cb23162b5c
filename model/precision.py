"""Which precision a processor multiplies fastest."""

import torch


def fastest_dtype() -> torch.dtype:
    """bf16 where the processor multiplies it natively, else fp32 (an emulated bf16 is a hundred times slower)."""
    if torch.cuda.is_available():
        return torch.bfloat16
    return torch.bfloat16 if has_bf16(torch.device("cpu")) else torch.float32


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is multiplied natively there."""
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device.type == "cuda"
