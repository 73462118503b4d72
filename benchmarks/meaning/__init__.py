"""What blip3u-tiny means: drawn, seen, said and edited, read by an independent scorer."""
