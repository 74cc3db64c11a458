"""Built-in algorithms, one file each; the file's name is the image's name."""
