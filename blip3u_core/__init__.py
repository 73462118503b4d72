"""BLIP3-U without a host: prompt -> visual tokens -> CLIP features -> picture, and answers."""
