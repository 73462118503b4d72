"""Whether weights fit into the free memory, in words, before anything is loaded."""

GIGA = 1024**3


def fit_message(part: str, dtype: str, needed: int, free: int, fp8: int | None = None) -> str:
    """What loading will do.

    Args:
        needed, free: bytes, with the room that the work takes.
        fp8: bytes needed with weights in fp8, None if they are that already.
    """
    said = f"{part}: needs about {needed / GIGA:.1f} GB in {dtype}, {free / GIGA:.1f} free"
    if needed <= free:
        return f"{said}: fits."
    hint = "" if fp8 is None else f" (weight_dtype fp8_e4m3fn would need {fp8 / GIGA:.1f})"
    return f"{said}: will run in low-VRAM mode, slower{hint}."
