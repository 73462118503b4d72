"""NextDiT as one would write it at first: diffusers' Lumina blocks, everything at every step.

The same maths and the same weights as `blip3u_core.features.nextdit`, as the reference does it:
visual tokens projected, keys and values made, timesteps modulated for every layer at each step,
masks that are all true, the null condition attended to like any other.
"""

import torch
from diffusers import LuminaNextDiT2DModel
from diffusers.models.embeddings import PixArtAlphaTextProjection, get_2d_rotary_pos_embed_lumina
from torch import Tensor

from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.flow import linear_sigmas, timesteps_of
from blip3u_core.features.nextdit import NextDiT

ROTATIONS_SIDE = 64  # the reference tabulates 384 x 384 places


class PlainDiT:
    def __init__(self, ours: NextDiT) -> None:
        config: NextDiTConfig = ours.config
        self.dtype = ours.dtype
        with torch.device("meta"):
            self.network = LuminaNextDiT2DModel(
                sample_size=config.input_size,
                patch_size=1,
                in_channels=config.in_channels,
                hidden_size=config.dim,
                num_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_kv_heads=config.num_kv_heads,
                multiple_of=config.ffn_dim,  # whatever it would compute, rounded up to this
                ffn_dim_multiplier=0.1,
                norm_eps=config.norm_eps,
                learn_sigma=False,
                qk_norm=True,
                cross_attention_dim=config.dim,
            )
            self.caption_projection = PixArtAlphaTextProjection(config.condition_dim, config.dim)
        self._take_weights(ours)
        self.rotations = get_2d_rotary_pos_embed_lumina(
            config.head_dim, ROTATIONS_SIDE, ROTATIONS_SIDE
        )

    def _take_weights(self, ours: NextDiT) -> None:
        prefix = "caption_projection."
        weights = ours.state_dict()
        caption = {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}
        self.caption_projection.load_state_dict(caption, assign=True)
        rest = {k: w for k, w in weights.items() if not k.startswith(prefix)}
        rest["pad_token"] = torch.zeros(ours.config.dim, dtype=self.dtype)  # used by nobody
        self.network.load_state_dict(rest, assign=True)

    def velocity(self, x: Tensor, timesteps: Tensor, visual_tokens: Tensor) -> Tensor:
        tokens = self.caption_projection(visual_tokens)
        return self.network(
            hidden_states=x,
            timestep=timesteps,
            encoder_hidden_states=tokens,
            encoder_mask=torch.ones(tokens.shape[:2]),
            image_rotary_emb=self.rotations,
            cross_attention_kwargs={},
        ).sample

    @torch.inference_mode()
    def sample(
        self, visual_tokens: Tensor, noise: Tensor, steps: int, guidance_scale: float
    ) -> Tensor:
        sigmas = linear_sigmas(steps)
        context = torch.cat([torch.zeros_like(visual_tokens), visual_tokens]).to(self.dtype)
        x = noise
        for i, timestep in enumerate(timesteps_of(sigmas[:-1])):
            both = torch.cat([x, x]).to(self.dtype)
            timesteps = timestep.expand(both.shape[0])
            null, described = self.velocity(both, timesteps, context).float().chunk(2)
            x = x + (sigmas[i + 1] - sigmas[i]) * (null + guidance_scale * (described - null))
        return x
