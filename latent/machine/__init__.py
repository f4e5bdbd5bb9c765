"""The machine below: its allocator and its fast products. Nothing here imports torch before it is needed."""
