"""What the algorithms for images share: samples, decoding, augmentation, networks, learning."""
