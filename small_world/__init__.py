"""The world of blip3u-tiny: its scenes, their pictures, what is said about them, and who is right.

Training samples from it, benchmarks measure with it; it knows neither of them.
"""
