"""Drafting: a first contract of data that somebody has, for a person to review."""
