"""`python -m neverslower`."""

import sys

from neverslower.cli import main

sys.exit(main())
