"""`python -m mockservice`: what the container runs."""

import sys

from mockservice.cli import main

sys.exit(main())
