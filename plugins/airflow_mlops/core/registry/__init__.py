"""Registry: versions of a model and the aliases candidate, challenger and champion."""
