"""The names of LoRA files, and what a file holds."""

import pytest

from blip3u_core.weights.lora_names import lora_names, modules_of

MODULE = "layers.3.attn2.to_out.0"


@pytest.mark.parametrize(
    "name",
    [
        MODULE,
        f"diffusion_model.{MODULE}",
        f"transformer.{MODULE}",
        f"unet.{MODULE}",
        f"base_model.model.{MODULE}",
        f"unet.base_model.model.{MODULE}",
        f"model.dit.model.{MODULE}",
        f"base_model.model.model.dit.model.{MODULE}",
        "lora_unet_layers_3_attn2_to_out_0",
        "lora_transformer_layers_3_attn2_to_out_0",
        "lycoris_layers_3_attn2_to_out_0",
        "lora_unet_model_dit_model_layers_3_attn2_to_out_0",
    ],
)
def test_every_trainers_name_is_known(name: str) -> None:
    assert name in set(lora_names(MODULE))


def test_modules_of_a_file() -> None:
    keys = ["a.to_q.lora_A.weight", "a.to_q.lora_B.default.weight", "a.to_q.alpha"]
    keys += ["lora_unet_b.lora_down.weight", "c.hada_w1_a", "d.lokr_w1", "e_lora.up.weight"]
    assert modules_of(keys) == ["a.to_q", "c", "d", "e", "lora_unet_b"]
