"""`python -m hf_nat`, so that `accelerate launch -m hf_nat train ...` works."""

import sys

from hf_nat_cli import main


if __name__ == "__main__":
    sys.exit(main())
