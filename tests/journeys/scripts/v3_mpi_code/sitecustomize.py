"""A quick clock for the SDK's own MPI driver: its sleeps, of 5 s and 30 s, end after a fraction of that."""

import sys
import time

if sys.argv[0].endswith("mpi_driver.py"):
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(seconds / 20)
