"""A module beside the entry point, with a package that only requirements.txt brings."""

import inflection


def greeting(label):
    return f"hello from {label}, one of many {inflection.pluralize('forest')}"
