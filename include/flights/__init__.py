"""The flagship example: a year of departures from New York, a regression and a classification loop."""
