"""What the weight_dtype widgets offer."""

import torch

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    "auto": None,  # the host chooses
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}


def dtype_named(name: str) -> torch.dtype | None:
    """Raises ValueError for a name that no widget offers."""
    if name not in WEIGHT_DTYPES:
        raise ValueError(
            f"weight_dtype is {name!r}, expected one of {list(WEIGHT_DTYPES)}. Choose one."
        )
    return WEIGHT_DTYPES[name]
