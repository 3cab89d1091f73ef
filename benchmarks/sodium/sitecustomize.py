"""argon2-cffi is not there: `homerealm.py --bindings none` puts this folder on the path, so that the stock PyNaCl is measured
also where the tests have installed the other. Python imports it when a process starts."""

import sys

sys.modules["argon2"] = None
