"""The word before loading: what is needed, what is free, what happens, what would help."""

import pytest

from blip3u_core.memory_report import GIGA, fit_message, peak_message


@pytest.mark.parametrize(
    ("needed", "free", "fp8", "said"),
    [
        (15.2, 24.0, 9.4, "LLM: needs about 15.2 GB in bfloat16, 24.0 free: fits."),
        (
            15.2,
            9.8,
            9.4,
            "LLM: needs about 15.2 GB in bfloat16, 9.8 free: will run in low-VRAM mode, slower "
            "(weight_dtype fp8_e4m3fn would need 9.4).",
        ),
        (
            9.4,
            8.0,
            None,
            "LLM: needs about 9.4 GB in bfloat16, 8.0 free: will run in low-VRAM mode, slower.",
        ),
    ],
)
def test_fit_message(needed: float, free: float, fp8: float | None, said: str) -> None:
    sizes = (int(needed * GIGA), int(free * GIGA), None if fp8 is None else int(fp8 * GIGA))
    assert fit_message("LLM", "bfloat16", *sizes) == said


def test_peak_message() -> None:
    sizes = (int(size * GIGA) for size in (16.4, 15.2, 15.4))
    said = "DiT: at most 16.4 GB in use, 15.2 of its 15.4 GB of weights among them."
    assert peak_message("DiT", *sizes) == said
