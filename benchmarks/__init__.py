"""Benchmarks: Clary beside a peer or the machine's limit, interleaved in one run; read the ratios."""
