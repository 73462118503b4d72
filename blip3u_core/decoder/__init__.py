"""Pictures from CLIP features: UNet, noise schedule, VAE."""
