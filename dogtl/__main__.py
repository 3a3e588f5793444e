"""``python -m dogtl`` is ``dogtl``."""

import sys

from dogtl.cli import main

sys.exit(main())
