"""`python -m wherry.registry`: how workers are executed."""

import sys

from wherry.registry.main import main

sys.exit(main(sys.argv[1:]))
