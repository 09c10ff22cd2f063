"""The endless web: lines, tile rows, seams."""
