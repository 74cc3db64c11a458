"""Protocols and signatures: bytes to calls and answers to bytes; nothing here touches a socket or a disk."""
