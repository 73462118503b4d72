"""What stock nodes ask of a network that has no use for it: an error, not a silent nothing."""

from collections.abc import Mapping
from typing import Any

# Options of a conditioning that only other networks read, and the stock node that sets each.
OTHERS_OPTIONS = {
    "unclip_conditioning": "unCLIPConditioning",
    "gligen": "GLIGENTextBoxApply",
    "guidance": "FluxGuidance",
    "reference_latents": "ReferenceLatent",
}


def refuse_options(conditioning: Mapping[str, Any], network: str) -> None:
    """Raises: ValueError if a conditioning carries what this network would not read."""
    for option, node in OTHERS_OPTIONS.items():
        if conditioning.get(option) is not None:
            raise ValueError(
                f"the conditioning carries {option}, which {network} does not read; expected one "
                f"without. Take the node that adds it ({node}) out of the graph."
            )


def refuse_patches(
    options: Mapping[str, Any], network: str, kinds: frozenset[str] | None = None
) -> None:
    """Raises: ValueError if a patch is for inner blocks that this network does not have.

    Args: kinds: the kinds of replaced blocks that are refused; None refuses every patch.
    """
    replaced = options.get("patches_replace") or {}
    named = [kind for kind, blocks in replaced.items() if blocks and (not kinds or kind in kinds)]
    if kinds is None:
        named += [kind for kind, patches in (options.get("patches") or {}).items() if patches]
    if named:
        raise ValueError(
            f"a node patches {', '.join(named)}, inner blocks that {network} does not have; it "
            "would do nothing. Take that node out of the graph (skip-layer guidance, PAG, FreeU, "
            "HyperTile and the like); guidance that works on predictions is fine."
        )
