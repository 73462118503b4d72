"""The language model: text and pictures in; text, or visual tokens, out."""
