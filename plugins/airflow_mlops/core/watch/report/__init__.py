"""What a person opens about a scored partition: one page, and Evidently's beside it."""
