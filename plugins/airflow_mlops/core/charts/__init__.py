"""Pictures of numbers: SVG made of plain values, without scripts, for pages and reports."""
