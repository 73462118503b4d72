"""CLIP features: made from visual tokens by the DiT, edited, read off pictures, compared."""
