"""``python -m comhe`` is the command ``comhe``."""

import sys

from comhe.train.cli.main import main

sys.exit(main())
