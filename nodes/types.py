"""Sockets of our own; all others are ComfyUI's."""

from comfy_api.v0_0_2 import io

# The language model under the host's memory management (a ModelPatcher with its tokenizer).
BLIP3U_LLM = io.Custom("BLIP3U_LLM")

# A dialogue: an immutable list of turns with role, text and pictures.
BLIP3U_CHAT = io.Custom("BLIP3U_CHAT")
