"""Speed and memory: ratios taken side by side, counted work, and what it means on real cards."""
