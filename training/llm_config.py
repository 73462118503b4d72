"""The sizes of blip3u-tiny's language model and DiT: its config.json, from which all is built."""

from blip3u_core.features.config import NextDiTConfig

from .tokenizer import load_tokenizer

NUM_QUERIES = 9
FEATURE_GRID = 3
FEATURE_CHANNELS = 96
PICTURE_TOKENS = 9
GENERATION_SIDE = 126

VISION = {
    "depth": 3,
    "fullatt_block_indexes": [0, 1, 2],
    "hidden_act": "silu",
    "hidden_size": 96,
    "in_channels": 3,
    "in_chans": 3,
    "intermediate_size": 256,
    "model_type": "qwen2_5_vl",
    "num_heads": 6,
    "out_hidden_size": 192,
    "patch_size": 21,
    "spatial_merge_size": 2,
    "spatial_patch_size": 21,
    "temporal_patch_size": 2,
    "tokens_per_second": 2,
    "window_size": GENERATION_SIDE,
}


def language_config() -> dict:
    """config.json of the published kind."""
    tokenizer = load_tokenizer()
    number = tokenizer.token_to_id
    return {
        "architectures": ["blip3oQwenForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": number("<|endoftext|>"),
        "eos_token_id": number("<|im_end|>"),
        "gen_hidden_size": FEATURE_CHANNELS,
        "gen_pooling": "early_pool2d_2",
        "gen_vision_tower": "eva-clip-tiny",
        "generation_image_size": GENERATION_SIDE,
        "hidden_act": "silu",
        "hidden_size": 192,
        "image_aspect_ratio": "square",
        "image_token_id": number("<|image_pad|>"),
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "max_position_embeddings": 4096,
        "max_window_layers": 7,
        "model_type": "blip3o_qwen",
        "n_query": NUM_QUERIES,
        "num_attention_heads": 6,
        "num_hidden_layers": 7,
        "num_key_value_heads": 2,
        "pad_token_id": number("<|endoftext|>"),
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_section": [4, 6, 6], "rope_type": "default", "type": "default"},
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
        "tokenizer_model_max_length": 4096,
        "tokenizer_padding_side": "right",
        "torch_dtype": "float16",
        "transformers_version": "4.51.3",
        "use_cache": True,
        "use_sliding_window": False,
        "video_token_id": number("<|video_pad|>"),
        "vision_config": VISION,
        "vision_end_token_id": number("<|vision_end|>"),
        "vision_start_token_id": number("<|vision_start|>"),
        "vision_token_id": number("<|vision_pad|>"),
        "vocab_size": tokenizer.get_vocab_size(),
        "writes_image_token": True,  # asks for a picture with [IMG]; others mark captions
    }


DIT = NextDiTConfig(
    in_channels=FEATURE_CHANNELS,
    dim=160,
    num_layers=5,
    num_heads=5,
    num_kv_heads=5,
    ffn_dim=384,
    condition_dim=192,
    input_size=FEATURE_GRID,
)
