"""Sources: where rows come from, each behind the one port of the stage."""
