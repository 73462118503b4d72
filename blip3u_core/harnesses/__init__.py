"""BLIP3-U as a model of the public harnesses; each is imported by the harness alone."""
