"""What an image URI means: an environment and its commands, one small file per image family."""
