"""A module beside the entry point, with a package that only requirements.txt brings."""

import humanfriendly


def greeting(label):
    return f"hello from {label}: {humanfriendly.format_size(2048, binary=True)}"
