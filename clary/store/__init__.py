"""What is kept: rows and events in a database, objects in files."""
