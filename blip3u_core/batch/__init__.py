"""Pictures, captions, edits and CLIP features by the million: sharded, resumable, each once."""
