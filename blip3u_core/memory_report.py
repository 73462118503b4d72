"""Memory in words: whether weights fit before they are loaded, what a stage took at most."""

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


def peak_message(part: str, peak: int, loaded: int, weights: int) -> str:
    """What a stage held on the device at most, all in bytes; `loaded` of its `weights` lay there.

    `peak` also counts what other stages left there because there was room.
    """
    return (
        f"{part}: at most {peak / GIGA:.1f} GB in use, {loaded / GIGA:.1f} of its "
        f"{weights / GIGA:.1f} GB of weights among them."
    )
