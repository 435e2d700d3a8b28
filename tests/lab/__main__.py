"""`python3 -m lab`; people use `cargo xtask lab`."""

from lab.cli import main

raise SystemExit(main())
