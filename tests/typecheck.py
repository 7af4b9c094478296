"""The run-time type checker of the test suite: beartype, with an int accepted where a float is asked for (PEP 484)."""

import beartype as library

check = library.beartype(conf=library.BeartypeConf(is_pep484_tower=True))
