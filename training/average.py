"""The mean of the weights before a training and after it.

    python -m training.average AFTER BEFORE

What was learned anew stays, and what was given up for it comes back. Source: WiSE-FT, Wortsman et
al. 2022. For exported files that go together: model.safetensors, and training/state/heads.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from .common import read_safetensors, write_safetensors


def average(after: Path, before: Path, share: float = 0.5) -> None:
    """Write the mean over `after`, with `share` of it.

    Raises: ValueError if the files hold tensors of other names or shapes.
    """
    new, old = read_safetensors(after), read_safetensors(before)
    differing = sorted(new.keys() ^ old.keys())
    differing += [key for key in new.keys() & old.keys() if new[key].shape != old[key].shape]
    if differing:
        raise ValueError(
            f"{after} and {before} differ in {len(differing)} tensors ({differing[0]}, ...), "
            "expected two exports of one model. Name the same file of both."
        )
    mean = {k: torch.lerp(old[k].float(), v.float(), share).to(v.dtype) for k, v in new.items()}
    write_safetensors(mean, after, {"format": "pt"})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m training.average", description=__doc__)
    parser.add_argument("after", type=Path, help="the newer file, which becomes the mean")
    parser.add_argument("before", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the newer one, 0 to 1")
    average(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
