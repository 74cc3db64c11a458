"""`python -m clary.cli`, where the script `clary` is not on the path."""

import sys

from clary.cli.main import main

sys.exit(main())
