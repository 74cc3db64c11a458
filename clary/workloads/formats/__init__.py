"""Readers and writers of the data formats that jobs and endpoints exchange."""
