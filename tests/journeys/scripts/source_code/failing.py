"""A script that fails as users' scripts do."""

print("looking for a column", flush=True)
raise ValueError("there is no column 'price'")
