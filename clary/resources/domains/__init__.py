"""Studio: domains, profiles, spaces, apps and the images they start."""
