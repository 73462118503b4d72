"""Dialogues and what the model does with them: answer, reason, interleave, caption."""
