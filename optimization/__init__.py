"""What makes a trained model small and fast, and how it is served; each gain measured.

The chapter is docs/optimization.md; it has the table of the files in reading order.
"""
